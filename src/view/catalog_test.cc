#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "view/catalog_builder.h"

namespace reshard {
namespace {

CatalogBuilder WithFile(uint64_t size) {
  CatalogBuilder builder;
  builder.AddFile({.path = "part", .size = size});
  return builder;
}

TEST(CatalogTest, SortsTensorsByNameAndChunksByStart) {
  CatalogBuilder builder = WithFile(100);
  builder.AddTensor("b", DType::kFloat32, {4});
  builder.AddChunk(Shape{2}, Shape{2}, 0, 8, 8);
  builder.AddChunk(Shape{4}, Shape{0}, 0, 0, 0);  // An empty shard.
  builder.AddChunk(Shape{0}, Shape{2}, 0, 0, 8);
  builder.AddTensor("a", DType::kInt8, {});
  builder.AddWhole(0, 99, 1);
  auto catalog = std::move(builder).Build("ckpt");
  ASSERT_TRUE(catalog) << catalog.error().ToString();
  EXPECT_EQ(catalog->tensors()[0].name, "a");
  const Tensor* b = catalog->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(catalog->chunks(*b).size(), 2u);
  EXPECT_EQ(catalog->chunks(*b)[0].offset, 0u);
  EXPECT_EQ(catalog->Box(*b, catalog->chunks(*b)[1]).start[0], 2);
  EXPECT_EQ(catalog->Find("c"), nullptr);
}

TEST(CatalogTest, RefusesAChunkBeyondItsFile) {
  CatalogBuilder builder = WithFile(15);
  builder.AddTensor("w", DType::kFloat32, {4});
  builder.AddWhole(0, 0, 16);
  auto catalog = std::move(builder).Build("ckpt");
  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().kind, ErrorKind::kSource);
  EXPECT_EQ(catalog.error().file, "ckpt/part");
  EXPECT_EQ(catalog.error().tensor, "w");
}

TEST(CatalogTest, RefusesANameTwiceAndAHole) {
  CatalogBuilder twice = WithFile(8);
  twice.AddTensor("w", DType::kInt8, {1});
  twice.AddWhole(0, 0, 1);
  twice.AddTensor("w", DType::kInt8, {1});
  twice.AddWhole(0, 1, 1);
  EXPECT_THAT(std::move(twice).Build("ckpt").error().tensor, "w");

  CatalogBuilder hole = WithFile(8);
  hole.AddTensor("w", DType::kInt8, {4});
  hole.AddChunk(Shape{1}, Shape{3}, 0, 0, 3);
  auto catalog = std::move(hole).Build("ckpt");
  ASSERT_FALSE(catalog);
  EXPECT_EQ(catalog.error().file, "ckpt");
}

TEST(CatalogTest, RefusesAShapeBeyond63Bits) {
  CatalogBuilder builder = WithFile(8);
  builder.AddTensor("w", DType::kFloat64, {INT64_MAX / 4});
  EXPECT_FALSE(std::move(builder).Build("ckpt"));
}

}  // namespace
}  // namespace reshard
