#include "cli/mm_convert_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <set>

#include "cli/yaml.h"

namespace reshard::cli {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

MmConfig HfToMm(MmFields models = MmFields::kAll) {
  return MmConfig(MmFieldsOf(MmMethod::kHfToMm, models));
}

std::vector<std::string> Names(MmMethod method, MmFields models) {
  std::vector<std::string> names;
  for (const MmField& field : MmFieldsOf(method, models)) names.push_back(field.name);
  return names;
}

TEST(MmConfig, FieldsOfTheirClasses) {
  EXPECT_THAT(Names(MmMethod::kHfToMm, MmFields::kAll),
              IsSupersetOf({"cfg.mm_dir", "cfg.hf_config.hf_dir", "cfg.llm_hf_config.hf_dir",
                            "cfg.save_vit_only", "cfg.trust_remote_code",
                            "cfg.parallel_config.llm_pp_layers", "cfg.parallel_config.ep_size",
                            "cfg.common_model_config.llm_hf_dir"}));
  EXPECT_THAT(Names(MmMethod::kHfToMm, MmFields::kAll),
              Not(Contains("cfg.common_model_config.enable_canonical_hf_struct")));
  EXPECT_THAT(Names(MmMethod::kHfToMm, MmFields::kCanonical), Not(Contains("cfg.pt_path")));
  EXPECT_THAT(Names(MmMethod::kHfToMm, MmFields::kVideoAlign),
              IsSupersetOf({"cfg.pt_path", "cfg.save_lora_only",
                            "cfg.common_model_config.enable_canonical_hf_struct",
                            "cfg.common_model_config.resize_vocab_size"}));
  EXPECT_THAT(Names(MmMethod::kMmToHf, MmFields::kAll), Contains("cfg.save_hf_dir"));
  EXPECT_THAT(
      Names(MmMethod::kResplit, MmFields::kAll),
      IsSupersetOf({"cfg.source_dir", "cfg.target_dir", "cfg.source_parallel_config.vit_pp_layers",
                    "cfg.target_parallel_config.tp_size"}));
  EXPECT_THAT(Names(MmMethod::kHfToMmDcp, MmFields::kAll),
              Not(Contains("cfg.parallel_config.tp_size")));
}

TEST(MmConfig, NamesAreUnique) {
  for (MmMethod method :
       {MmMethod::kHfToMm, MmMethod::kMmToHf, MmMethod::kResplit, MmMethod::kHfToMmDcp}) {
    const auto names = Names(method, MmFields::kVideoAlign);
    EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
  }
}

TEST(MmConfig, StandardValues) {
  const MmConfig config = HfToMm();
  EXPECT_EQ(config.Text("cfg.parallel_config.tp_size"), "1");
  EXPECT_EQ(config.Text("cfg.parallel_config.vit_tp_size"), "0");
  EXPECT_EQ(config.Text("cfg.mm_dir"), "");
  EXPECT_FALSE(config.Flag("cfg.save_vit_only"));
  EXPECT_FALSE(config.Flag("cfg.no_such_field"));
}

TEST(MmConfig, HyphensAreUnderscores) {
  MmConfig config = HfToMm();
  ASSERT_TRUE(config.Set("cfg.parallel-config.tp-size", "4"));
  EXPECT_EQ(config.Text("cfg.parallel_config.tp_size"), "4");
}

TEST(MmConfig, NullTakesAValueBack) {
  MmConfig config = HfToMm();
  ASSERT_TRUE(config.Set("cfg.parallel_config.tp_size", "4"));
  ASSERT_TRUE(config.Set("cfg.parallel_config.tp_size", "null"));
  EXPECT_EQ(config.Text("cfg.parallel_config.tp_size"), "1");
  ASSERT_TRUE(config.Set("cfg.llm_hf_config.hf_dir", "llm"));
  ASSERT_TRUE(config.Set("cfg.llm_hf_config", std::nullopt));
  EXPECT_EQ(config.Text("cfg.llm_hf_config.hf_dir"), "");
}

TEST(MmConfig, WrongValues) {
  for (const auto& [name, text] : std::initializer_list<std::pair<const char*, const char*>>{
           {"cfg.parallel_config.tp_size", "0"},
           {"cfg.parallel_config.tp_size", "-1"},
           {"cfg.parallel_config.tp_size", "2.0"},
           {"cfg.parallel_config.tp_size", "99999999999999999999"},
           {"cfg.parallel_config.vit_tp_size", "two"},
           {"cfg.parallel_config.llm_pp_layers", "[[1, 2], [3]]"},
           {"cfg.parallel_config.llm_pp_layers", "[-1]"},
           {"cfg.parallel_config.llm_pp_layers", "4"},
           {"cfg.save_vit_only", "maybe"},
           {"cfg.mm_dir", ""}}) {
    MmConfig config = HfToMm();
    const auto set = config.Set(name, text);
    ASSERT_FALSE(set) << name << " " << text;
    EXPECT_EQ(set.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(set.error().found, HasSubstr(name));
    EXPECT_FALSE(set.error().expected.empty());
  }
}

TEST(MmConfig, UnknownFieldNamesTheNearest) {
  MmConfig config = HfToMm();
  EXPECT_EQ(config.Set("cfg.parallel_config.tp_sise", "2").error().expected,
            "perhaps cfg.parallel_config.tp_size");
  EXPECT_THAT(config.Set("cfg.something_else_altogether", "2").error().expected,
              HasSubstr("cfg.mm_dir"));
}

TEST(MmConfig, RequiredFields) {
  MmConfig config = HfToMm();
  ASSERT_TRUE(config.Set("cfg.mm_dir", "mm"));
  ASSERT_TRUE(config.Set("cfg.hf_config.hf_dir", "hf"));
  ASSERT_TRUE(config.Set("cfg.parallel_config.llm_pp_layers", "[[4]]"));
  const auto missing = config.CheckComplete();
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().found, "--cfg.parallel_config.vit_pp_layers is required");
  ASSERT_TRUE(config.Set("cfg.parallel_config.vit_pp_layers", "[4]"));
  EXPECT_TRUE(config.CheckComplete());
}

TEST(MmConfig, FieldsWithoutEffectAreNamed) {
  MmConfig config = HfToMm();
  EXPECT_TRUE(config.IgnoredFields().empty());
  ASSERT_TRUE(config.Set("cfg.trust_remote_code", "True"));
  ASSERT_EQ(config.IgnoredFields().size(), 1u);
  EXPECT_THAT(config.IgnoredFields()[0], HasSubstr("cfg.trust_remote_code"));
}

TEST(MmConfig, YamlReadsBack) {
  MmConfig config = HfToMm();
  ASSERT_TRUE(config.Set("cfg.mm_dir", "out: a # b"));
  ASSERT_TRUE(config.Set("cfg.parallel_config.llm_pp_layers", "[[1,10],[10,7]]"));
  ASSERT_TRUE(config.Set("cfg.save_vit_only", "true"));
  for (const char* style : {"", "true", "comments", "skip_null", "skip_default,comments"}) {
    const std::string path = testing::TempDir() + "mm_config.yaml";
    std::ofstream(path) << config.ToYaml(*ParseMmYamlStyle(style));
    MmConfig read = HfToMm();
    const auto set = read.SetFromFile(path);
    ASSERT_TRUE(set) << set.error().ToString();
    EXPECT_EQ(read.ToYaml({}), config.ToYaml({})) << style;
    std::remove(path.c_str());
  }
}

TEST(MmConfig, YamlStyles) {
  MmConfig config = HfToMm();
  EXPECT_EQ(config.ToYaml({.skip_default = true}), "");
  ASSERT_TRUE(config.Set("cfg.hf_config.hf_dir", "hf"));
  EXPECT_EQ(config.ToYaml({.skip_default = true}), "cfg:\n  hf_config:\n    hf_dir: hf\n");
  EXPECT_THAT(config.ToYaml({.skip_null = true}), Not(HasSubstr("null")));
  EXPECT_THAT(config.ToYaml({.comments = true}), HasSubstr("    # tensor parallel size\n"));
  EXPECT_FALSE(ParseMmYamlStyle("coments"));
}

TEST(MmConfig, FaultsOfAFileNameItsLine) {
  const std::string path = testing::TempDir() + "mm_config.yaml";
  std::ofstream(path) << "cfg:\n  mm_dir: mm\n  tp_size: 2\n";
  MmConfig config = HfToMm();
  EXPECT_EQ(config.SetFromFile(path).error().file, path + ":3");
  std::ofstream(path) << std::string(2 * kMaxYamlBytes, ' ');
  EXPECT_THAT(config.SetFromFile(path).error().found, HasSubstr("the file has 2097152 bytes"));
  EXPECT_THAT(config.SetFromFile(path).error().expected, HasSubstr("at most 1048576 bytes"));
  std::remove(path.c_str());
  EXPECT_EQ(config.SetFromFile(path).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(config.SetFromFile(testing::TempDir()).error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace reshard::cli
