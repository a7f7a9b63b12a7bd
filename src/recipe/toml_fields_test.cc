#include "recipe/toml_fields.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "io/io_test_support.h"

namespace reshard {
namespace {

std::string Repeated(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

// Each of them has a key of 200,000 parts, which overflowed the stack.
TEST(TomlFieldsTest, ADeepKeyIsRefusedWithItsLine) {
  const std::string deep = Repeated("a.", 200'000) + "a";
  const std::string quoted = Repeated("\"a,=#'\".'b]\"\\'. c . ", 70'000) + "a";
  for (const std::string& line :
       {deep + " = 1", "[" + deep + "]", "[[" + deep + "]]", "x = { " + deep + " = 1 }", quoted + "=1",
        "x = { s = '''\n'''''," + deep + "=1}", "s = \"\"\"\\\"\"\"\"\n" + deep + "=1",
        "# it's a comment\n" + deep + "=1"}) {
    const auto table = ParseToml("name = 'x'\n" + line, "r.toml");
    ASSERT_FALSE(table) << line.substr(0, 40);
    EXPECT_EQ(table.error().kind, ErrorKind::kUsage);
    EXPECT_EQ(table.error().found, "a key has more than 32 parts") << line.substr(0, 40);
    EXPECT_EQ(table.error().file, line.contains('\n') ? "r.toml:3" : "r.toml:2");
  }
}

// Dots that are in no key are no depth.
TEST(TomlFieldsTest, DotsElsewhereAreText) {
  const std::string dots = Repeated(".", 100), numbers = Repeated("1.5, ", 100);
  const std::string text = fmt::format(
      "a = \"{0}\\\"{0}\"\nb = '{0}\\' # {0}\nc = '''\n{0}'' {0}'''\nd = \"\"\"{0}\\\"\"\" {0}\"\"\"\"\"\n"
      "e = [{1}]\n\"{0}\" = 1\n{2} = 2\nf = '' # {0}\ng = \"\"\n",
      dots, numbers, Repeated("k.", 31) + "k");
  const auto table = ParseToml(text, "r.toml");
  ASSERT_TRUE(table) << table.error().ToString();
  EXPECT_EQ(table->size(), 9u);
}

TEST(TomlFieldsTest, NestedValuesAreBounded) {
  const auto table = ParseToml("x = " + Repeated("[", 200'000), "r.toml");
  ASSERT_FALSE(table);
  EXPECT_EQ(table.error().kind, ErrorKind::kUsage);
}

TEST(TomlFieldsTest, OnlyPlainFilesAreRead) {
  TestDirectory directory;
  const std::string fifo = directory.path() / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {fifo, directory.path().string(), std::string("/dev/zero")}) {
    const auto text = ReadTomlText(path, "layout");
    ASSERT_FALSE(text) << path;
    EXPECT_EQ(text.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(text.error().found, testing::HasSubstr("this layout cannot be read"));
  }
}

}  // namespace
}  // namespace reshard
