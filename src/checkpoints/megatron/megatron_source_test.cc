#include "checkpoints/megatron/megatron_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "formats/torch_save/state_dict_writer.h"
#include "io/io_test_support.h"
#include "reshard/convert.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

// An iteration's directory, into which ranks are copied.
class MegatronSourceTest : public testing::Test {
 protected:
  fs::path Rank(const std::string& name, const std::string& fixture = "one") {
    fs::create_directory(path() / name);
    const fs::path file = path() / name / "model_optim_rng.pt";
    fs::copy_file(RESHARD_TEST_DATA "/megatron/" + fixture + "/model_optim_rng.pt", file);
    return file;
  }

  Error Fault() {
    const auto source = OpenMegatronSource(path());
    EXPECT_FALSE(source);
    if (source) return {};
    EXPECT_EQ(source.error().kind, ErrorKind::kSource);
    return source.error();
  }

  const fs::path& path() const { return directory_.path(); }

 private:
  TestDirectory directory_;
};

std::vector<std::string> Names(const auto& items) {
  std::vector<std::string> names;
  for (const auto& item : items) names.push_back(item.name);
  return names;
}

TEST_F(MegatronSourceTest, ListsEachRanksOwnTensors) {
  Rank("mp_rank_00", "chunks");
  Rank("mp_rank_01", "chunks");
  const auto source = OpenMegatronSource(path());
  ASSERT_TRUE(source) << source.error().ToString();
  const Catalog& catalog = (*source)->catalog();
  EXPECT_THAT(Names(catalog.tensors()),
              ElementsAre("mp_rank_00/model0/decoder.layers.0.mlp.linear_fc1.weight",
                          "mp_rank_00/model0/decoder.norm",
                          "mp_rank_00/model1/decoder.layers.0.mlp.linear_fc2.weight",
                          "mp_rank_00/model1/output_layer.weight",
                          "mp_rank_01/model0/decoder.layers.0.mlp.linear_fc1.weight",
                          "mp_rank_01/model0/decoder.norm",
                          "mp_rank_01/model1/decoder.layers.0.mlp.linear_fc2.weight",
                          "mp_rank_01/model1/output_layer.weight"));
  const Tensor& last = catalog.tensors().back();
  EXPECT_THAT(last.shape, ElementsAre(5, 3));
  const auto layout = (*source)->Locate(last, catalog.chunks(last)[0]);
  ASSERT_TRUE(layout);
  std::string data(30, '\0');
  ASSERT_TRUE(
      (*source)->ReadAt(layout->file, layout->offset, std::as_writable_bytes(std::span(data))));
  EXPECT_EQ(data, std::string(30, '\4'));
  EXPECT_THAT((*source)->hints(), Contains(Pair("virtual_pipeline_model_parallel_size", 2)));
  EXPECT_THAT((*source)->hints(), Contains(Pair("tensor_model_parallel_size", 2)));
  EXPECT_THAT((*source)->hints(), Contains(Pair("pipeline_model_parallel_size", 1)));
}

TEST_F(MegatronSourceTest, AllElseIsAnObject) {
  Rank("mp_rank_00", "trained");
  PutBytes(path() / "mp_rank_00" / "distrib_optim.pt", "12345");
  const auto source = OpenMegatronSource(path());
  ASSERT_TRUE(source) << source.error().ToString();
  const Catalog& catalog = (*source)->catalog();
  EXPECT_THAT(Names(catalog.tensors()),
              ElementsAre("mp_rank_00/model/embedding.word_embeddings.weight",
                          "mp_rank_00/model/output_layer.weight", "mp_rank_00/model/slice"));
  EXPECT_THAT(
      Names(catalog.objects()),
      ElementsAre("mp_rank_00/args", "mp_rank_00/checkpoint_version", "mp_rank_00/distrib_optim.pt",
                  "mp_rank_00/iteration", "mp_rank_00/model/mlp._extra_state",
                  "mp_rank_00/model/self_attention._extra_state",
                  "mp_rank_00/opt_param_scheduler.max_lr", "mp_rank_00/optimizer.param_groups.0.lr",
                  "mp_rank_00/optimizer.state.0.exp_avg",
                  "mp_rank_00/rng_state.0.torch_rng_state"));
  EXPECT_EQ(catalog.objects()[2].byte_size, 5u);
  EXPECT_EQ(catalog.objects()[8].summary, "float32 [4, 3]");
  EXPECT_EQ(catalog.objects()[8].byte_size, 48u);
  EXPECT_THAT((*source)->notes(), IsEmpty());
}

TEST_F(MegatronSourceTest, SharedAndStridedStoragesAreFollowed) {
  Rank("mp_rank_00", "trained");
  const auto source = OpenMegatronSource(path());
  ASSERT_TRUE(source);
  const Catalog& catalog = (*source)->catalog();
  const auto locate = [&](const char* key) {
    const Tensor* tensor = catalog.Find(std::string("mp_rank_00/model/") + key);
    return (*source)->Locate(*tensor, catalog.chunks(*tensor)[0]).value();
  };
  const ChunkLayout embedding = locate("embedding.word_embeddings.weight");
  EXPECT_EQ(locate("output_layer.weight").offset, embedding.offset);
  EXPECT_EQ(locate("slice").offset, embedding.offset + 4);
  EXPECT_THAT(locate("slice").strides, ElementsAre(1, 3));
}

TEST_F(MegatronSourceTest, NamesWhatIsMissing) {
  EXPECT_THAT(Fault().found, HasSubstr("no directories mp_rank_*"));
  Rank("mp_rank_00");
  Rank("mp_rank_02");
  EXPECT_THAT(Fault().found, HasSubstr("mp_rank_01 is missing"));
  fs::create_directory(path() / "mp_rank_01");
  EXPECT_THAT(Fault().found, HasSubstr("no file"));
  EXPECT_THAT(Fault().file, HasSubstr("mp_rank_01"));
  PutBytes(path() / "mp_rank_01" / "model_optim_rng.pt", "");
  EXPECT_THAT(Fault().file, HasSubstr("mp_rank_01/model_optim_rng.pt"));
}

TEST_F(MegatronSourceTest, NamesWhatDoesNotBelong) {
  Rank("mp_rank_00");
  fs::create_directory(path() / "mp_rank_00.bak");
  EXPECT_THAT(Fault().file, HasSubstr("mp_rank_00.bak"));
  fs::remove(path() / "mp_rank_00.bak");
  PutBytes(path() / "mp_rank_00_model_states.pt", "a file of another program");
  EXPECT_TRUE(OpenMegatronSource(path()));
  PutBytes(path() / "mp_rank_00" / "model_rng.pt", "");
  EXPECT_THAT(Fault().found, HasSubstr("both model_optim_rng.pt and model_rng.pt"));
}

TEST_F(MegatronSourceTest, RanksOfDifferentSavesAreTold) {
  Rank("mp_rank_00");
  Rank("mp_rank_01", "chunks");
  EXPECT_THAT(Fault().found, HasSubstr("2 model chunks"));
  EXPECT_THAT(Fault().file, HasSubstr("mp_rank_01"));
}

TEST_F(MegatronSourceTest, TheOlderNameOfTheFile) {
  const fs::path file = Rank("mp_rank_00");
  fs::rename(file, file.parent_path() / "model_rng.pt");
  EXPECT_TRUE(OpenMegatronSource(path()));
}

TEST_F(MegatronSourceTest, DirectoriesWinOverArgs) {
  Rank("mp_rank_00", "trained");
  Rank("mp_rank_01", "trained");
  const auto source = OpenMegatronSource(path());
  ASSERT_TRUE(source);
  EXPECT_THAT((*source)->hints(), Contains(Pair("tensor_model_parallel_size", 2)));
  EXPECT_THAT((*source)->notes(), ElementsAre(HasSubstr("tensor_model_parallel_size is 1")));
}

TEST_F(MegatronSourceTest, HintsAreWhatAllRanksAgreeOn) {
  using torch_save::Dict;
  for (const int64_t rank : {0, 1}) {
    const Dict args{.items = {{"rank", rank}, {"num_layers", int64_t{4}}}};
    const auto layout = torch_save::EncodeDict({.items = {{"model", Dict{}}, {"args", args}}});
    ASSERT_TRUE(layout && layout->literals.size() == 1);
    const fs::path directory = path() / ("mp_rank_0" + std::to_string(rank));
    fs::create_directory(directory);
    PutBytes(directory / "model_optim_rng.pt", layout->literals[0].bytes);
  }
  const auto source = OpenMegatronSource(path());
  ASSERT_TRUE(source) << source.error().ToString();
  EXPECT_THAT((*source)->hints(), Contains(Pair("num_layers", 4)));
  EXPECT_THAT((*source)->hints(), Not(Contains(Key("rank"))));
}

TEST_F(MegatronSourceTest, ALoneSuffixWithoutArgsIsNotGuessed) {
  Rank("mp_rank_00_000");
  Rank("mp_rank_00_001");
  const auto source = OpenMegatronSource(path());
  ASSERT_TRUE(source);
  EXPECT_THAT((*source)->hints(), Not(Contains(Key("pipeline_model_parallel_size"))));
}

TEST_F(MegatronSourceTest, IsDetectedAndFoundByTheTracker) {
  fs::create_directory(path() / "iter_0001000");
  fs::create_directory(path() / "iter_0001000" / "mp_rank_00");
  fs::copy_file(RESHARD_TEST_DATA "/megatron/one/model_optim_rng.pt",
                path() / "iter_0001000" / "mp_rank_00" / "model_optim_rng.pt");
  PutBytes(path() / "latest_checkpointed_iteration.txt", "1000");
  const auto source = OpenSource(path().string());
  ASSERT_TRUE(source) << source.error().ToString();
  EXPECT_EQ((*source)->kind(), "megatron");
  EXPECT_THAT((*source)->root(), HasSubstr("iter_0001000"));
  EXPECT_TRUE(OpenSource((path() / "iter_0001000").string(), "megatron"));
  const auto rank = OpenSource((path() / "iter_0001000" / "mp_rank_00").string());
  ASSERT_FALSE(rank);
  EXPECT_THAT(rank.error().help, HasSubstr("directory above"));
  PutBytes(path() / "iter_0001000" / ".metadata", "");
  const auto both = OpenSource(path().string());
  ASSERT_FALSE(both);
  EXPECT_EQ(both.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(both.error().help, HasSubstr("--from dcp or --from megatron"));
}

}  // namespace
}  // namespace reshard
