#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/buffer.h"
#include "core/error.h"

namespace sabrewing {
namespace {

/// An open descriptor of a regular file with its size.
class RegularFile {
 public:
  explicit RegularFile(const std::filesystem::path& path) : path_(path) {
    // O_NONBLOCK: opening a FIFO must not wait for a writer; regular files ignore it.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) {
      const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
      fail(code, "[file] cannot open {}: {}", path.string(), std::generic_category().message(errno));
    }
    struct stat status{};
    if (::fstat(fd_, &status) != 0) stop(std::generic_category().message(errno));
    if (S_ISDIR(status.st_mode)) stop("is a directory");
    if (!S_ISREG(status.st_mode)) stop("is not a regular file");
    size_ = static_cast<std::size_t>(status.st_size);
  }
  ~RegularFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int fd() const { return fd_; }
  std::size_t size() const { return size_; }
  /// Closes first: a constructor that throws runs no destructor.
  [[noreturn]] void stop(const std::string& why) {
    ::close(std::exchange(fd_, -1));
    fail(ErrorCode::kIo, "[file] cannot read {}: {}", path_.string(), why);
  }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::size_t size_ = 0;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  RegularFile file(path);
  if (file.size() == 0) return;
  void* address = ::mmap(nullptr, file.size(), PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (address == MAP_FAILED) file.stop(std::generic_category().message(errno));
  data_ = static_cast<const std::byte*>(address);
  size_ = file.size();
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(std::span<const std::byte> range) const { discard_pages(range); }

std::string read_text_file(const std::filesystem::path& path, std::size_t limit) {
  RegularFile file(path);
  SABREWING_CHECK(file.size() <= limit, kCorrupt, "[file] {} has {} bytes, at most {} are accepted",
                  path.string(), file.size(), limit);
  std::string text(file.size(), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.fd(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) file.stop(std::generic_category().message(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

}  // namespace sabrewing
