#include "checkpoints/hf/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "io/io_test_support.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class SideFilesTest : public testing::Test {
 protected:
  void Put(const std::string& name) {
    std::filesystem::create_directories((path() / name).parent_path());
    PutBytes(path() / name, name);
  }
  SideFiles Find(const SideFileScope& scope = {}) {
    auto found = FindSideFiles(path(), scope);
    EXPECT_TRUE(found) << found.error().ToString();
    return found.value_or(SideFiles());
  }
  std::vector<std::string> Names(const SideFiles& found) {
    std::vector<std::string> names;
    for (const SourceFile& file : found.files) {
      EXPECT_EQ(file.size, file.path.size());
      names.push_back(file.path);
    }
    return names;
  }
  std::filesystem::path path() const { return directory_.path(); }
  TestDirectory directory_;
};

TEST_F(SideFilesTest, AllButWeightsIsTaken) {
  const std::vector<std::string> taken = {
      "1_Pooling/config.json", "LICENSE",          "README.md",      "adapter_config.json",
      "config.json",           "mm_projector.bin", "modeling_own.py", "quantize_config.json",
      "sentencepiece.model",   "spk_dict.pt",      "tekken.json",    "voices/af/one.pt"};
  for (const std::string& name : taken) Put(name);
  for (const char* name : {"model.safetensors", "model.Q4_K_M.gguf", "pytorch_model.bin.index.json",
                           "consolidated.00.pth", "onnx/config.json", "onnx/model.onnx",
                           "optimizer.pt", "rng_state_0.pth", "trainer_state.json",
                           "training_args.bin", "global_step10/x", "checkpoint-5/config.json"})
    Put(name);
  const SideFiles found = Find();
  EXPECT_EQ(Names(found), taken);
  EXPECT_THAT(found.left_behind,
              ElementsAre("checkpoint-5/", "consolidated.00.pth", "global_step10/",
                          "model.Q4_K_M.gguf", "model.safetensors", "onnx/", "optimizer.pt",
                          "pytorch_model.bin.index.json", "rng_state_0.pth", "trainer_state.json",
                          "training_args.bin"));
}

TEST_F(SideFilesTest, HiddenFilesCachesAndOursAreNotSpokenOf) {
  for (const char* name : {".git/config", ".cache/x", ".DS_Store", "__pycache__/a.pyc",
                           "reshard-manifest.json", "out.partial-0123456789abcdef/a.json",
                           "tokenizer.json.partial"})
    Put(name);
  const SideFiles found = Find();
  EXPECT_THAT(found.files, IsEmpty());
  EXPECT_THAT(found.left_behind, IsEmpty());
}

TEST_F(SideFilesTest, WhatIsReadAsWeightsIsNotLeftBehind) {
  for (const char* name : {"model-00001-of-00001.safetensors", "model.safetensors.index.json",
                           "tokenizer.json", "step-10/__0_0.distcp", "step-10/notes.txt"})
    Put(name);
  const SideFiles found = Find({.weights = {"model-00001-of-00001.safetensors",
                                            "model.safetensors.index.json",
                                            "step-10/__0_0.distcp"}});
  EXPECT_THAT(Names(found), ElementsAre("tokenizer.json"));
  EXPECT_THAT(found.left_behind, IsEmpty());
}

TEST_F(SideFilesTest, AnyOtherDirectoryGivesWhatIsNamedAsAModelsFiles) {
  for (const char* name : {"tokenizer.json", "modeling_own.py", "spiece.model",
                           "additional_chat_templates/tool.jinja", "thesis.pdf", "photos/1.jpg",
                           "other.pt", "additional_chat_templates/notes.txt"})
    Put(name);
  const SideFiles found = Find({.is_model = false});
  EXPECT_THAT(Names(found), ElementsAre("additional_chat_templates/tool.jinja", "modeling_own.py",
                                        "spiece.model", "tokenizer.json"));
  EXPECT_THAT(found.left_behind, IsEmpty());
}

TEST_F(SideFilesTest, LinksAreFollowed) {
  std::filesystem::create_directory(path() / "snapshot");
  Put("blobs/0123");
  std::filesystem::create_symlink("../blobs/0123", path() / "snapshot" / "tokenizer.json");
  std::filesystem::create_symlink("nowhere", path() / "snapshot" / "notes");
  std::filesystem::create_symlink("ring", path() / "snapshot" / "ring");
  std::filesystem::create_directory_symlink(".", path() / "snapshot" / "here");
  ASSERT_EQ(mkfifo((path() / "snapshot" / "pipe").c_str(), 0600), 0);
  const auto found = FindSideFiles(path() / "snapshot", {});
  ASSERT_TRUE(found) << found.error().ToString();
  ASSERT_EQ(found->files.size(), 1u);
  EXPECT_EQ(found->files[0].size, std::string_view("blobs/0123").size());
  EXPECT_THAT(found->left_behind, ElementsAre("here/", "notes", "pipe", "ring"));
}

TEST_F(SideFilesTest, ALinkToNothingWhereALoaderLooksIsAnError) {
  std::filesystem::create_symlink("../blobs/gone", path() / "tokenizer.json");
  for (const bool is_model : {true, false}) {
    const auto found = FindSideFiles(path(), {.is_model = is_model});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().kind, ErrorKind::kSource);
    EXPECT_EQ(found.error().file, path() / "tokenizer.json");
  }
}

TEST_F(SideFilesTest, WhatCannotBeSeenIsAnError) {
  EXPECT_FALSE(FindSideFiles(path() / "gone", {}));
  Put("file");
  EXPECT_FALSE(FindSideFiles(path() / "file", {}));
}

TEST_F(SideFilesTest, AFolderOfManyFilesIsData) {
  for (int i = 0; i < 1001; ++i) Put("images/" + std::to_string(i));
  const SideFiles found = Find();
  EXPECT_THAT(found.files, IsEmpty());
  EXPECT_THAT(found.left_behind, ElementsAre("images/"));
}

}  // namespace
}  // namespace reshard
