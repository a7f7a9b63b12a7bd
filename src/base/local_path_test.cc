#include "reshard/local_path.h"

#include <gtest/gtest.h>

namespace reshard {
namespace {

std::string Help(std::string_view path, PathUse use = PathUse::kRead) {
  const auto checked = CheckIsLocal(path, use);
  if (checked) return "local";
  EXPECT_EQ(checked.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(checked.error().file, path);
  return checked.error().help;
}

TEST(CheckIsLocalTest, PathsAreLocal) {
  for (const char* path : {"", ".", "/data/run", "run/step-1", "C:/data", "a:b/c", "run:/1", "1x://y",
                           "epoch=3.ckpt", "./s3://bucket", "://", "a b://c", "dir/s3://x"})
    EXPECT_EQ(Help(path), "local") << path;
}

TEST(CheckIsLocalTest, UrlsAreToldWithTheCommandThatWouldWork) {
  EXPECT_EQ(Help("s3://bucket/run"),
            "copy it to a directory of this machine first: "
            "aws s3 cp --recursive s3://bucket/run DIRECTORY");
  EXPECT_EQ(Help("gs://bucket/run", PathUse::kWrite),
            "write a directory of this machine, then copy it there: "
            "gcloud storage cp -r DIRECTORY gs://bucket/run");
  EXPECT_EQ(Help("file:///data/run"), "leave the scheme out: /data/run");
  EXPECT_EQ(Help("https://huggingface.co/org/name/tree/main"),
            "download it and give the directory that this prints: hf download org/name");
  EXPECT_EQ(Help("hf://org/name@main/x"),
            "download it and give the directory that this prints: hf download org/name");
  EXPECT_EQ(Help("hf://org/name", PathUse::kWrite),
            "write a directory, then upload it: hf upload org/name DIRECTORY");
  EXPECT_NE(Help("az://container/x"), "local");
  EXPECT_NE(Help("S3://bucket/x"), "local");
  EXPECT_NE(Help("any+scheme://x"), "local");
  EXPECT_NE(Help("https://example.com/a{0}b"), "local");
}

// pathlib.Path("s3://bucket/run") is "s3:/bucket/run".
TEST(CheckIsLocalTest, AUrlThatPythonsPathHasShortened) {
  EXPECT_EQ(Help("s3:/bucket/run"), Help("s3://bucket/run"));
}

TEST(CheckIsLocalTest, WhatATerminalWouldObeyIsNotInTheHelp) {
  EXPECT_EQ(Help("s3://\x1b[31m").find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace reshard
