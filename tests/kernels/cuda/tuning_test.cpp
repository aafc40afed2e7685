#include "kernels/cuda/gemm/tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "core/embedded.h"
#include "core/mapped_file.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/gemm_plan.h"
#include "tests/jit/temporary_folder.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaTuning[];
extern const std::size_t kCudaTuningCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {
namespace {

using ::testing::HasSubstr;

GemmDesc desc_of(const char* weights) {
  GemmDesc desc;
  desc.weight = format_by_name(weights);
  desc.activation = formats::ActivationFormat::bf16();
  desc.n = 4096;
  desc.k = 4096;
  return desc;
}

DeviceModel h200() {
  DeviceModel model;
  model.architecture = jit::Architecture::parse("sm_90a");
  return model;
}

TuningTable table_of(double rate) {
  TuningTable table;
  table.device = {"sm_90a", 132, rate};
  table.put(desc_of("mxfp4"), 16,
            {"mma 16x64 w4 a2 k1 r1", false, 7.5, {{"wgmma 16x64 b1 s10 d2 k2 r1", 8.25}}});
  return table;
}

TEST(Tuning, JsonRoundTrips) {
  const std::string json = tuning_json({table_of(4.2)});
  const std::vector<TuningTable> tables = parse_tuning(json, "test");
  ASSERT_EQ(tables.size(), 1u);
  EXPECT_TRUE(tables[0].device.matches({"sm_90a", 132, 4.2}));
  const TunedChoice* choice = tables[0].find(desc_of("mxfp4"), 16);
  ASSERT_NE(choice, nullptr);
  EXPECT_EQ(choice->kernel, "mma 16x64 w4 a2 k1 r1");
  EXPECT_EQ(choice->us, 7.5);
  EXPECT_EQ(choice->slower.size(), 1u);
  EXPECT_EQ(tuning_json(tables), json);
  GemmDesc other = desc_of("mxfp4");
  EXPECT_EQ(tables[0].find(other, 32), nullptr);
  other.k = 8192;
  EXPECT_EQ(tables[0].find(other, 16), nullptr);
  other = desc_of("mxfp4");
  other.accuracy = Accuracy::kHigh;
  EXPECT_EQ(tables[0].find(other, 16), nullptr);
  other = desc_of("mxfp4");
  other.activation = activation_by_name("fp8");
  EXPECT_EQ(tables[0].find(other, 16), nullptr);
}

TEST(Tuning, EveryActivationFormatHasItsChoice) {
  const std::vector<const char*> names{"bf16", "fp16",    "fp8",      "fp8tensor", "fp8e5m2",
                                       "int8", "fp8g128", "int8g128", "mxfp8"};
  TuningTable table;
  table.device = {"sm_90a", 132, 4.2};
  GemmDesc desc = desc_of("fp8row");
  for (std::size_t i = 0; i < names.size(); ++i) {
    desc.activation = activation_by_name(names[i]);
    table.put(desc, 16, {"kernel", false, static_cast<double>(i + 1), {}});
  }
  const std::vector<TuningTable> read = parse_tuning(tuning_json({table}), "test");
  ASSERT_EQ(read.at(0).size(), names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    desc.activation = activation_by_name(names[i]);
    ASSERT_NE(read[0].find(desc, 16), nullptr) << names[i];
    EXPECT_EQ(read[0].find(desc, 16)->us, static_cast<double>(i + 1)) << names[i];
  }
}

TEST(Tuning, ClassesAreMeasuredNotNamed) {
  const DeviceClass device{"sm_90a", 132, 4.2};
  EXPECT_TRUE(device.matches({"sm_90a", 132, 3.8}));
  EXPECT_FALSE(device.matches({"sm_90a", 132, 3.0}));
  EXPECT_FALSE(device.matches({"sm_90a", 114, 4.2}));
  EXPECT_FALSE(device.matches({"sm_100a", 132, 4.2}));
}

TEST(Tuning, DamagedFilesNameTheField) {
  const auto refusal = [](const std::string& text) {
    try {
      parse_tuning(text, "file");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal("{"), HasSubstr("file"));
  EXPECT_THAT(refusal("[]"), HasSubstr("\"version\""));
  EXPECT_THAT(refusal(R"({"version": 2, "tables": []})"), HasSubstr("version 2"));
  EXPECT_THAT(refusal(R"({"version": 1, "tables": 3})"), HasSubstr("\"tables\""));
  EXPECT_THAT(refusal(R"({"version": 1, "tables": [{}]})"), HasSubstr("\"device\""));
  std::string json = tuning_json({table_of(4.2)});
  for (const auto& [from, to, field] : {std::tuple{"\"us\": 7.5", "\"us\": -1", "\"us\""},
                                        {"\"m\": 16", "\"m\": 1e99", "\"m\""},
                                        {"\"scale_after\": false", "\"scale_after\": 0", "\"scale_after\""},
                                        {"\"kernel\": \"mma", "\"x\": \"mma", "\"kernel\""}}) {
    std::string damaged = json;
    damaged.replace(damaged.find(from), std::strlen(from), to);
    EXPECT_THAT(refusal(damaged), HasSubstr(field));
  }
  EXPECT_EQ(refusal(R"({"version": 1, "tables": []})"), "accepted");
}

TEST(Tuning, FilesAreUpdatedByClass) {
  const jit::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "deep" / "tuning.json";
  store_tuning(file, table_of(4.2));
  store_tuning(file, table_of(2.5));
  TuningTable more;
  more.device = {"sm_90a", 132, 4.3};
  more.put(desc_of("int4g128"), 64, {"wgmma 64x64 b1 s10 d1 k2 r1", false, 10, {}});
  store_tuning(file, more);
  const std::vector<TuningTable> tables = parse_tuning(read_text_file(file, 1 << 20), "file");
  ASSERT_EQ(tables.size(), 2u);
  EXPECT_EQ(tables[0].size(), 2u);
  EXPECT_EQ(tables[1].size(), 1u);
  std::ofstream(file) << "no JSON";
  EXPECT_THROW(store_tuning(file, more), Error);
}

TEST(Tuning, PresetsParse) {
  ASSERT_GT(embedded::kCudaTuningCount, 0u);
  for (std::size_t i = 0; i < embedded::kCudaTuningCount; ++i)
    for (const TuningTable& table : parse_tuning(
             {embedded::kCudaTuning[i].data, embedded::kCudaTuning[i].size}, embedded::kCudaTuning[i].path))
      EXPECT_GT(table.size(), 0u);
}

TEST(Tuning, PlansTakeTheTunedCandidate) {
  const GemmDesc desc = desc_of("mxfp4");
  const WeightLayout layout = weight_layout(desc.weight);
  const std::vector<Candidate> all = candidates(h200(), gemm_problem(desc, layout, 16), kEveryCandidate);
  ASSERT_GT(all.size(), 20u);
  const Candidate by_model = choose_kernel(h200(), desc, layout, 16, nullptr);
  EXPECT_EQ(by_model.shape, all[0].shape);
  EXPECT_EQ(by_model.tuned_us, 0);
  EXPECT_THAT(by_model.note, HasSubstr("slower by the model: " + all[1].shape.to_string()));

  TuningTable table;
  table.put(desc, 16,
            {all[17].shape.to_string(), all[17].scale_after, 6.5, {{all[0].shape.to_string(), 7.25}}});
  const Candidate tuned = choose_kernel(h200(), desc, layout, 16, &table);
  EXPECT_EQ(tuned.shape, all[17].shape);
  EXPECT_EQ(tuned.tuned_us, 6.5);
  EXPECT_THAT(tuned.note, HasSubstr("slower when timed: " + all[0].shape.to_string() + " 7.2"));
  EXPECT_EQ(choose_kernel(h200(), desc, layout, 32, &table).tuned_us, 0);

  // Faster with more rows: taken for fewer. Slower: not.
  table.put(desc, 64, {all[9].shape.to_string(), all[9].scale_after, 6.25, {}});
  table.put(desc, 96, {all[3].shape.to_string(), all[3].scale_after, 6.75, {}});
  EXPECT_EQ(choose_kernel(h200(), desc, layout, 16, &table).shape, all[9].shape);
  EXPECT_EQ(choose_kernel(h200(), desc, layout, 16, &table).tuned_us, 6.25);

  table = TuningTable{};
  table.put(desc, 16, {"mma 7x7", false, 6.5, {}});
  const Candidate fallback = choose_kernel(h200(), desc, layout, 16, &table);
  EXPECT_EQ(fallback.shape, all[0].shape);
  EXPECT_THAT(fallback.note, HasSubstr("\"mma 7x7\" is no candidate any more"));
}

TEST(Tuning, LeftOutFamiliesAreNamed) {
  const GemmDesc desc = desc_of("int4g128");
  const WeightLayout layout = weight_layout(desc.weight);
  const auto reason = [&](std::int64_t m, Accuracy accuracy, DeviceModel model) {
    GemmDesc d = desc;
    d.accuracy = accuracy;
    return choose_kernel(model, d, layout, m, nullptr).note;
  };
  EXPECT_THAT(reason(1, Accuracy::kDefault, h200()), HasSubstr("wgmma: below M 5"));
  EXPECT_THAT(reason(256, Accuracy::kDefault, h200()), HasSubstr("mma: above M 64"));
  EXPECT_THAT(reason(256, Accuracy::kHigh, h200()), HasSubstr("mma: above M 64"));
  DeviceModel ampere = h200();
  ampere.architecture = jit::Architecture::parse("sm_80");
  EXPECT_THAT(reason(16, Accuracy::kDefault, ampere), HasSubstr("wgmma: needs sm_90a"));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
