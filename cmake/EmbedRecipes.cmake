# cmake -DOUT=file -DDIR=recipes -P EmbedRecipes.cmake: the recipes as string literals.
file(GLOB_RECURSE files RELATIVE "${DIR}" "${DIR}/*.toml")
list(SORT files)
set(rows "")
foreach(file ${files})
  file(READ "${DIR}/${file}" text)
  string(APPEND rows "    {\"${file}\", R\"toml(${text})toml\"},\n")
endforeach()
set(text "// Generated from recipes/*.toml.
#include \"recipe/embedded_recipes.h\"

namespace reshard {
namespace {
constexpr EmbeddedRecipe kTable[] = {
${rows}};
}  // namespace
const std::span<const EmbeddedRecipe> kEmbeddedRecipes = kTable;
}  // namespace reshard
")
file(WRITE "${OUT}" "${text}")
