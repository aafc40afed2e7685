#include "jit/cubin_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/mapped_file.h"
#include "jit/cache_admin.h"
#include "temporary_folder.h"

namespace sabrewing::jit {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

CacheKey key_of(std::string_view text, std::string compiler = "nvrtc-13.0-1") {
  return {sha256(std::as_bytes(std::span(text))), std::move(compiler)};
}

CompiledKernels kernels_of(std::string name, std::size_t cubin_bytes = 1000) {
  CompiledKernels kernels;
  kernels.name = std::move(name);
  kernels.compiler = "nvrtc-13.0";
  kernels.architecture = Architecture::parse("sm_90a");
  kernels.warnings = "one\ntwo\n";
  kernels.functions = {{"scale<2>", "_Z5scaleILi2EEvPf", {40, 8, 16, 24, 1024}}, {"", "plain", {}}};
  for (std::size_t i = 0; i < cubin_bytes; ++i) kernels.cubin.push_back(static_cast<std::byte>(i * 7));
  return kernels;
}

void expect_same(const CompiledKernels& a, const CompiledKernels& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.compiler, b.compiler);
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.warnings, b.warnings);
  EXPECT_EQ(a.cubin, b.cubin);
  ASSERT_EQ(a.functions.size(), b.functions.size());
  for (std::size_t i = 0; i < a.functions.size(); ++i) {
    EXPECT_EQ(a.functions[i].expression, b.functions[i].expression);
    EXPECT_EQ(a.functions[i].lowered_name, b.functions[i].lowered_name);
    EXPECT_EQ(a.functions[i].resources, b.functions[i].resources);
  }
}

void write_bytes(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Runs `body` in a child process; its exit status, or -1 when it died of a signal.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (...) {
    }
    std::_Exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class CubinCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel level, std::string_view message) {
      if (level == LogLevel::kWarning) warnings_.emplace_back(message);
    });
  }
  void TearDown() override { set_log_sink({}); }

  fs::path entry(const CacheKey& key) const { return folder_.path() / key.file_name(); }

  TemporaryFolder folder_;
  std::vector<std::string> warnings_;
};

TEST_F(CubinCacheTest, GivesBackWhatWasStored) {
  const fs::path nested = folder_.path() / "a" / "b";
  CubinCache cache(nested);
  EXPECT_FALSE(cache.load(key_of("x")));
  cache.store(key_of("x"), kernels_of("gemm"));
  const auto loaded = cache.load(key_of("x"));
  ASSERT_TRUE(loaded);
  expect_same(*loaded, kernels_of("gemm"));
  EXPECT_FALSE(cache.load(key_of("y")));
  EXPECT_FALSE(cache.load(key_of("x", "nvrtc-13.0-2"))) << "another compiler's code was served";
  EXPECT_EQ(files_in(nested), 1u) << "temporary files are left";
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(CubinCacheTest, ServesAnyCompilersCodeWhenAskedTo) {
  CubinCache cache(folder_.path());
  EXPECT_FALSE(cache.load_of_any_compiler(key_of("x").content));
  cache.store(key_of("x", "nvrtc-12.8-5"), kernels_of("old"));
  cache.store(key_of("x", "nvrtc-13.0-5"), kernels_of("new"));
  cache.store(key_of("y"), kernels_of("other"));
  const auto loaded = cache.load_of_any_compiler(key_of("x").content);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->name, "new");
  write_bytes(entry(key_of("x", "nvrtc-13.0-5")), "damaged");
  EXPECT_EQ(cache.load_of_any_compiler(key_of("x").content)->name, "old");
}

TEST_F(CubinCacheTest, EveryTruncationAndEveryFlippedByteIsRejected) {
  CubinCache cache(folder_.path());
  const CacheKey key = key_of("x");
  const std::string good = encode_entry(key, kernels_of("gemm", 40));
  for (std::size_t length = 0; length < good.size(); ++length) {
    write_bytes(entry(key), good.substr(0, length));
    ASSERT_FALSE(cache.load(key)) << "cut to " << length;
  }
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    write_bytes(entry(key), bad);
    ASSERT_FALSE(cache.load(key)) << "byte " << i << " flipped";
  }
  write_bytes(entry(key), good + "x");
  EXPECT_FALSE(cache.load(key));
  EXPECT_EQ(cache.rejected(), 2 * good.size() + 1);
  ASSERT_EQ(warnings_.size(), 2 * good.size() + 1);
  EXPECT_THAT(warnings_.back(), HasSubstr(entry(key).string()));
  EXPECT_THAT(warnings_.back(), HasSubstr("compiling it again"));

  cache.store(key, kernels_of("gemm", 40));
  EXPECT_TRUE(cache.load(key)) << "a damaged entry is not replaced";
}

TEST_F(CubinCacheTest, HostilePayloadsWithAValidDigestAreRejected) {
  const CacheKey key = key_of("x");
  const std::string good = encode_entry(key, kernels_of("gemm", 40));
  constexpr std::size_t kHeader = 80;
  const auto sealed = [&](std::string payload) {
    std::string bytes = good.substr(0, 40);
    const Digest digest = sha256(std::as_bytes(std::span(payload)));
    bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(payload.size() >> 8 * i));
    return bytes + payload;
  };
  const std::string payload = good.substr(kHeader);
  EXPECT_EQ(sealed(payload), good);
  for (std::size_t length = 0; length < payload.size(); ++length)
    EXPECT_THROW(decode_entry(sealed(payload.substr(0, length)), "entry"), Error) << length;
  EXPECT_THROW(decode_entry(sealed(payload + '\0'), "entry"), Error);
  std::string huge = payload;
  for (std::size_t i = 0; i < 4; ++i) huge[i] = '\xff';
  EXPECT_THROW(decode_entry(sealed(huge), "entry"), Error);
  std::string traversal = payload;
  traversal.replace(4, 5, "../..");
  EXPECT_THROW(decode_entry(sealed(traversal), "entry"), Error);
}

TEST_F(CubinCacheTest, AnEntryUnderAnotherNameIsForeign) {
  CubinCache cache(folder_.path());
  cache.store(key_of("x"), kernels_of("gemm"));
  fs::copy_file(entry(key_of("x")), entry(key_of("y")));
  EXPECT_FALSE(cache.load(key_of("y")));
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_THAT(warnings_[0], HasSubstr("holds another kernel"));
  fs::create_directory(entry(key_of("z")));
  EXPECT_FALSE(cache.load(key_of("z")));
}

TEST_F(CubinCacheTest, StaysBelowItsBoundAndDropsTheLeastRecentlyUsed) {
  const std::uint64_t one = encode_entry(key_of("a"), kernels_of("k")).size();
  CubinCache cache(folder_.path(), 3 * one);
  const auto age = [&](std::string_view text, int hours) {
    fs::last_write_time(entry(key_of(text)), fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  cache.store(key_of("a"), kernels_of("k"));
  cache.store(key_of("b"), kernels_of("k"));
  cache.store(key_of("c"), kernels_of("k"));
  age("a", 3);
  age("b", 2);
  age("c", 1);
  ASSERT_TRUE(cache.load(key_of("a"))) << "which makes it the latest used";
  cache.store(key_of("d"), kernels_of("k"));
  EXPECT_TRUE(fs::exists(entry(key_of("a"))));
  EXPECT_FALSE(fs::exists(entry(key_of("b"))));
  EXPECT_TRUE(fs::exists(entry(key_of("c"))));
  EXPECT_TRUE(fs::exists(entry(key_of("d"))));
  cache.store(key_of("big"), kernels_of("k", 4 * one));
  EXPECT_FALSE(fs::exists(entry(key_of("big")))) << "larger than the whole cache";
  EXPECT_EQ(files_in(folder_.path()), 3u);
}

TEST_F(CubinCacheTest, RemovesWhatAKilledProcessLeftButNotWhatIsBeingWritten) {
  CubinCache cache(folder_.path());
  write_bytes(folder_.path() / ".writing-old", "x");
  write_bytes(folder_.path() / ".writing-now", "x");
  write_bytes(folder_.path() / "unrelated", "x");
  for (const char* name : {".writing-old", "unrelated"})
    fs::last_write_time(folder_.path() / name, fs::file_time_type::clock::now() - std::chrono::hours(2));
  cache.store(key_of("a"), kernels_of("k"));
  EXPECT_FALSE(fs::exists(folder_.path() / ".writing-old"));
  EXPECT_TRUE(fs::exists(folder_.path() / ".writing-now"));
  EXPECT_TRUE(fs::exists(folder_.path() / "unrelated"));
}

TEST_F(CubinCacheTest, AFolderThatCannotBeMadeIsWarnedOfOnce) {
  write_bytes(folder_.path() / "file", "");
  for (const fs::path& folder :
       {folder_.path() / "file", folder_.path() / "file" / "below", fs::path("/proc/x")}) {
    warnings_.clear();
    CubinCache cache(folder);
    for (int i = 0; i < 3; ++i) {
      EXPECT_FALSE(cache.load(key_of("x")));
      cache.store(key_of("x"), kernels_of("k"));
    }
    ASSERT_THAT(warnings_, SizeIs(1)) << folder;
    EXPECT_THAT(warnings_[0], HasSubstr(folder.string()));
    EXPECT_THAT(warnings_[0], HasSubstr("going on without"));
  }
}

TEST_F(CubinCacheTest, AReadOnlyFolderStillServesAndIsWarnedOfOnce) {
  CubinCache(folder_.path()).store(key_of("x"), kernels_of("k"));
  chmod(folder_.path().c_str(), 0555);
  const int status = in_child([&] {
    if (geteuid() == 0 && (setegid(65534) != 0 || seteuid(65534) != 0)) return 77;
    CubinCache cache(folder_.path());
    if (!cache.load(key_of("x"))) return 1;
    cache.store(key_of("y"), kernels_of("k"));
    cache.store(key_of("z"), kernels_of("k"));
    if (warnings_.size() != 1) return 2;
    return warnings_[0].find("Permission denied") == std::string::npos ? 3 : 0;
  });
  chmod(folder_.path().c_str(), 0755);
  if (status == 77) GTEST_SKIP() << "cannot give up the rights of root here";
  EXPECT_EQ(status, 0);
  EXPECT_EQ(files_in(folder_.path()), 1u);
}

// A limit on file sizes fails a write in the middle, as a full disk does.
TEST_F(CubinCacheTest, ADiskThatFillsUpLeavesNoPartOfAnEntry) {
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{500, 500};
    setrlimit(RLIMIT_FSIZE, &limit);
    CubinCache cache(folder_.path());
    cache.store(key_of("x"), kernels_of("k"));
    cache.store(key_of("y"), kernels_of("k"));
    if (cache.load(key_of("x"))) return 1;
    return warnings_.size() == 1 ? 0 : 2;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(files_in(folder_.path()), 0u);
  EXPECT_THROW(write_file_atomically("/dev/full/x", "y"), Error);
}

TEST_F(CubinCacheTest, ProcessesShareAFolder) {
  const std::uint64_t one = encode_entry(key_of("0"), kernels_of("k", 20000)).size();
  std::vector<pid_t> children;
  for (int process = 0; process < 4; ++process) {
    const pid_t child = fork();
    if (child == 0) {
      CubinCache cache(folder_.path(), 3 * one);
      int bad = 0;
      for (int i = 0; i < 200; ++i) {
        const std::string name = std::to_string((i + process) % 5);
        cache.store(key_of(name), kernels_of(name, 20000));
        const auto loaded = cache.load(key_of(name));
        if (loaded && (loaded->name != name || loaded->cubin.size() != 20000)) ++bad;
      }
      std::_Exit(bad == 0 && cache.rejected() == 0 && warnings_.empty() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  EXPECT_LE(files_in(folder_.path()), 3u);
}

TEST_F(CubinCacheTest, TheDefaultFolderFollowsTheEnvironment) {
  const int status = in_child([] {
    setenv("SABREWING_CACHE_DIR", "/a", 1);
    setenv("XDG_CACHE_HOME", "/b", 1);
    setenv("HOME", "/c", 1);
    if (CubinCache::default_folder() != "/a/kernels") return 1;
    setenv("SABREWING_CACHE_DIR", "", 1);
    if (CubinCache::default_folder() != "/b/sabrewing/kernels") return 2;
    setenv("XDG_CACHE_HOME", "relative", 1);
    if (CubinCache::default_folder() != "/c/.cache/sabrewing/kernels") return 3;
    unsetenv("HOME");
    if (CubinCache::default_folder() || CubinCache::open_default()) return 4;
    return 0;
  });
  EXPECT_EQ(status, 0);
}

TEST_F(CubinCacheTest, ListsAndClears) {
  EXPECT_THAT(list_cache(folder_.path() / "absent"), IsEmpty());
  EXPECT_EQ(clear_cache(folder_.path() / "absent").entries, 0u);
  CubinCache cache(folder_.path());
  cache.store(key_of("a"), kernels_of("first"));
  cache.store(key_of("b"), kernels_of("sec\x1b[2J\xff"));
  fs::last_write_time(entry(key_of("a")), fs::file_time_type::clock::now() - std::chrono::hours(1));
  write_bytes(entry(key_of("c")), "damaged");
  fs::last_write_time(entry(key_of("c")), fs::file_time_type::clock::now() - std::chrono::hours(2));
  write_bytes(folder_.path() / "notes.txt", "keep");

  const auto listing = list_cache(folder_.path());
  ASSERT_THAT(listing, SizeIs(3));
  EXPECT_EQ(listing[0].name, "sec?[2J?");
  EXPECT_EQ(listing[0].architecture, "sm_90a");
  EXPECT_EQ(listing[0].compiler, "nvrtc-13.0");
  EXPECT_EQ(listing[0].bytes, fs::file_size(entry(key_of("b"))));
  EXPECT_EQ(listing[0].damage, "");
  EXPECT_EQ(listing[1].name, "first");
  EXPECT_THAT(listing[2].damage, HasSubstr("is not a compiled kernel"));

  const CacheRemoval removal = clear_cache(folder_.path());
  EXPECT_EQ(removal.entries, 3u);
  EXPECT_GT(removal.bytes, 2000u);
  EXPECT_EQ(files_in(folder_.path()), 1u) << "only the unrelated file is left";
}

TEST_F(CubinCacheTest, ExportsAndImports) {
  CubinCache cache(folder_.path() / "from");
  cache.store(key_of("a"), kernels_of("first"));
  cache.store(key_of("b"), kernels_of("second"));
  write_bytes(cache.folder() / key_of("c").file_name(), "damaged");
  const fs::path archive = folder_.path() / "archive";
  const CacheTransfer exported = export_cache(cache.folder(), archive);
  EXPECT_EQ(exported.entries, 2u);
  EXPECT_THAT(exported.rejected, ElementsAre(HasSubstr("is not a compiled kernel")));

  CubinCache other(folder_.path() / "to");
  other.store(key_of("a"), kernels_of("first"));
  const CacheTransfer imported = import_cache(other, archive);
  EXPECT_EQ(imported.entries, 1u);
  EXPECT_EQ(imported.present, 1u);
  ASSERT_TRUE(other.load(key_of("b")));
  expect_same(*other.load(key_of("b")), kernels_of("second"));

  write_bytes(other.folder() / key_of("b").file_name(), "damaged");
  EXPECT_EQ(import_cache(other, archive).entries, 1u) << "a damaged entry is replaced";
  EXPECT_TRUE(other.load(key_of("b")));

  CubinCache small(folder_.path() / "small", 100);
  EXPECT_THROW(import_cache(small, archive), Error);
  write_bytes(folder_.path() / "file", "");
  CubinCache unwritable(folder_.path() / "file");
  EXPECT_THROW(import_cache(unwritable, archive), Error);
  EXPECT_THROW(export_cache(cache.folder(), folder_.path() / "absent" / "archive"), Error);
  EXPECT_EQ(export_cache(folder_.path() / "absent", archive).entries, 0u);
  EXPECT_EQ(import_cache(other, archive).entries, 0u);
}

TEST_F(CubinCacheTest, ADamagedArchiveChangesNothing) {
  CubinCache cache(folder_.path() / "from");
  cache.store(key_of("a"), kernels_of("first", 50));
  cache.store(key_of("b"), kernels_of("second", 50));
  const fs::path archive = folder_.path() / "archive";
  export_cache(cache.folder(), archive);
  const std::string good = read_text_file(archive, 1 << 20);
  CubinCache other(folder_.path() / "to");
  const auto expect_refused = [&](const std::string& bytes) {
    write_bytes(archive, bytes);
    try {
      import_cache(other, archive);
      ADD_FAILURE() << "imported " << bytes.size() << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      EXPECT_THAT(error.what(), HasSubstr(archive.string()));
    }
    EXPECT_FALSE(fs::exists(other.folder()));
  };
  for (std::size_t length = 0; length < good.size(); length += 7) expect_refused(good.substr(0, length));
  for (std::size_t i = 0; i < good.size(); i += 5) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    expect_refused(bad);
  }
  // Counts and sizes that lie, under a digest that is right.
  const auto sealed = [](std::string body) {
    const Digest digest = sha256(std::as_bytes(std::span(body)));
    return body.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  };
  const std::string body = good.substr(0, good.size() - 32);
  for (const char count : {'\0', '\1', '\3', '\xff'}) {
    std::string bad = body;
    bad[8] = count;
    if (count == '\xff') bad.replace(8, 8, 8, '\xff');
    expect_refused(sealed(bad));
  }
  std::string long_entry = body;
  long_entry.replace(16, 8, 8, '\xff');
  expect_refused(sealed(long_entry));
  std::string long_last_entry = body;
  const auto first_size = static_cast<unsigned char>(body[16]) + 256u * static_cast<unsigned char>(body[17]);
  ++long_last_entry[16 + 8 + first_size];
  expect_refused(sealed(long_last_entry));
}

TEST_F(CubinCacheTest, AFolderMayBeMoved) {
  CubinCache cache(folder_.path() / "here");
  cache.store(key_of("a"), kernels_of("first"));
  fs::copy(cache.folder(), folder_.path() / "there", fs::copy_options::recursive);
  fs::remove_all(cache.folder());
  CubinCache moved(folder_.path() / "there");
  EXPECT_TRUE(moved.load(key_of("a")));
}

}  // namespace
}  // namespace sabrewing::jit
