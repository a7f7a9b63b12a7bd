#include "reshard/local_path.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "reshard/text.h"

namespace reshard {
namespace {

// What copies a tree between a place with this scheme and a directory: "{0}" from, "{1}" to.
struct Store {
  std::string_view scheme;
  std::string_view copy;
};
constexpr std::array kStores = {
    Store{"s3", "aws s3 cp --recursive {0} {1}"},
    Store{"gs", "gcloud storage cp -r {0} {1}"},
    Store{"az", "azcopy, or rclone copy"},
    Store{"abfs", "azcopy, or rclone copy"},
    Store{"abfss", "azcopy, or rclone copy"},
    Store{"hdfs", "hdfs dfs -cp {0} {1}"},
    Store{"oss", "ossutil cp -r {0} {1}"},
    Store{"obs", "obsutil cp -r {0} {1}"},
    Store{"cos", "coscli cp -r {0} {1}"},
    Store{"hf", ""},
    Store{"http", ""},
    Store{"https", ""},
    Store{"file", ""}};

bool IsSchemeCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
}

// "s3" of "s3://bucket/x"; empty for a path. One slash is enough behind a scheme that is known.
std::string SchemeOf(std::string_view path) {
  const size_t colon = path.find(':');
  if (colon == std::string_view::npos || colon < 2 || !path.substr(colon).starts_with(":/"))
    return {};
  std::string scheme(path.substr(0, colon));
  if (!std::ranges::all_of(scheme, IsSchemeCharacter) ||
      !std::isalpha(static_cast<unsigned char>(scheme[0])))
    return {};
  std::ranges::transform(scheme, scheme.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool known = std::ranges::find(kStores, scheme, &Store::scheme) != kStores.end();
  return known || path.substr(colon).starts_with("://") ? scheme : std::string();
}

// "org/name" of "hf://org/name/...", "hf://models/org/name" or "https://huggingface.co/org/name".
std::string HubRepository(std::string_view scheme, std::string_view rest) {
  constexpr std::string_view kHub = "huggingface.co/";
  if (scheme != "hf" && !rest.starts_with(kHub)) return {};
  if (rest.starts_with(kHub)) rest.remove_prefix(kHub.size());
  if (rest.starts_with("models/")) rest.remove_prefix(7);
  const size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return {};
  const size_t end = rest.find_first_of("/@?#", slash + 1);
  return std::string(rest.substr(0, end));
}

std::string HelpFor(std::string_view path, const std::string& scheme, PathUse use) {
  std::string_view rest = path.substr(scheme.size() + 1);
  while (rest.starts_with('/')) rest.remove_prefix(1);
  if (scheme == "file") return fmt::format("leave the scheme out: /{}", Printable(rest));
  if (const std::string repository = HubRepository(scheme, rest); !repository.empty())
    return use == PathUse::kRead
               ? fmt::format("download it and give the directory that this prints: hf download {}",
                             Printable(repository))
               : fmt::format("write a directory, then upload it: hf upload {} DIRECTORY",
                             Printable(repository));
  const auto store = std::ranges::find(kStores, scheme, &Store::scheme);
  const std::string_view copy = store == kStores.end() || store->copy.empty()
                                    ? (use == PathUse::kRead ? "wget or curl" : "rclone copy")
                                    : store->copy;
  const std::string url = fmt::format("{}://{}", scheme, Printable(rest));
  const auto from_to = [&](std::string_view from, std::string_view to) {
    return fmt::format(fmt::runtime(copy), from, to);
  };
  if (use == PathUse::kRead)
    return fmt::format("copy it to a directory of this machine first: {}",
                       from_to(url, "DIRECTORY"));
  return fmt::format("write a directory of this machine, then copy it there: {}",
                     from_to("DIRECTORY", url));
}

}  // namespace

Result<> CheckIsLocal(std::string_view path, PathUse use) {
  const std::string scheme = SchemeOf(path);
  if (scheme.empty()) return {};
  return std::unexpected(Error{
      .kind = ErrorKind::kUsage,
      .file = std::string(path),
      .found = use == PathUse::kRead
                   ? fmt::format("this is a URL: reshard does not read from {}://", scheme)
                   : fmt::format("this is a URL: reshard does not write to {}://", scheme),
      .expected = "a path in a file system of this machine, or one that is mounted there",
      .help = HelpFor(path, scheme, use)});
}

}  // namespace reshard
