#include "checkpoints/not_a_checkpoint.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "checkpoints/hub_cache.h"
#include "checkpoints/megatron/other_layout.h"
#include "checkpoints/megatron/rank_name.h"
#include "io/directory.h"
#include "io/file.h"
#include "reshard/text.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// What a file is to a conversion, given itself or met in a directory.
enum class Use {
  kNone,          // reshard has no reader for it
  kItself,        // a model's weights under a name that is not looked for
  kOther,         // tensors that can be read, but are not a model's
  kPart,          // some of a model's tensors: one file of a set
  kSlice,         // slices of a model's tensors: what one process had
  kSliceIfMany,   // the same, where there are several such files
  kNeedsOthers,   // nothing without the other files of its directory
  kState,         // says nothing where something else is there
};

// The table of what people take for a checkpoint, by the names of files. '*' stands for any text, '#'
// for digits; the first row that a name fits is the name's, and the first row is the directory's. The
// sentence is "<file> is <what>"; {dir} and {file} in `help` are put in.
struct ByName {
  std::string_view pattern;
  std::string_view what;
  std::string_view help;
  Use use;
};

constexpr std::string_view kDiffusers =
    "reshard writes what transformers loads; to change the type, load and save it with diffusers: "
    "from_pretrained('{dir}', torch_dtype=...).save_pretrained(OUT)";
constexpr std::string_view kAdapter =
    "merge it into its base model with PEFT, then convert OUT: "
    "PeftModel.from_pretrained(base, '{dir}').merge_and_unload().save_pretrained(OUT)";
constexpr std::string_view kDeepSpeed =
    "make a model of it with DeepSpeed, then convert OUT: "
    "python -m deepspeed.utils.zero_to_fp32 DIRECTORY_ABOVE OUT";
constexpr std::string_view kDeepSpeedAbove =
    "make a model of it, then convert OUT: python -m deepspeed.utils.zero_to_fp32 {dir} OUT";
constexpr std::string_view kVerl =
    "merge the ranks' files with verl, then convert OUT: python -m verl.model_merger merge "
    "--backend fsdp --local_dir {dir} --target_dir OUT";
constexpr std::string_view kGiveFile = "give the file itself: {dir}/{file}";
constexpr std::string_view kGiveDirectory = "give its directory: {dir}";
constexpr std::string_view kOriginals =
    "give the file itself, and the directory of the same model's config.json: reshard convert "
    "{dir}/{file} OUT --assets-from CONFIG_DIRECTORY";
constexpr std::string_view kManyOriginals =
    "take the model's Hugging Face files (model-*.safetensors), or make them with transformers: "
    "python -m transformers.models.llama.convert_llama_weights_to_hf --input_dir {dir} "
    "--output_dir OUT";
constexpr std::string_view kOtherFramework =
    "make a PyTorch model of it with transformers 4, then convert OUT: "
    "AutoModel.from_pretrained('{dir}', from_{framework}=True).save_pretrained(OUT)";

constexpr std::array kByName = {
    ByName{"model_index.json", "the list of a diffusers pipeline, which is several models",
           "give the directory of one model; reshard converts those that transformers loads, such as "
           "a text_encoder",
           Use::kNone},
    ByName{"diffusion_pytorch_model*.safetensors", "the weights of a diffusers model", kDiffusers,
           Use::kOther},
    ByName{"diffusion_pytorch_model*.bin", "the weights of a diffusers model", kDiffusers, Use::kOther},
    ByName{"adapter_model*.safetensors", "a PEFT adapter: what is added to a model, not a model",
           kAdapter, Use::kOther},
    ByName{"adapter_model*.bin", "a PEFT adapter: what is added to a model, not a model", kAdapter,
           Use::kOther},
    ByName{"adapter_config.json", "the configuration of a PEFT adapter, not of a model", kAdapter,
           Use::kNone},
    ByName{"*zero_pp_rank_#_mp_rank_#_model_states.pt", "what one rank of DeepSpeed's ZeRO had",
           kDeepSpeed, Use::kSlice},
    ByName{"*zero_pp_rank_#_mp_rank_#_optim_states.pt", "what one rank of DeepSpeed's ZeRO had",
           kDeepSpeed, Use::kSlice},
    ByName{"mp_rank_#_model_states.pt", "a file of a DeepSpeed checkpoint", kDeepSpeed, Use::kOther},
    ByName{"layer_#-model_#-model_states.pt", "a file of a DeepSpeed checkpoint", kDeepSpeed,
           Use::kSlice},
    ByName{"zero_to_fp32.py", "DeepSpeed's script, which lies above its checkpoints",
           kDeepSpeedAbove, Use::kNone},
    ByName{"global_step#", "a step of a DeepSpeed checkpoint", kDeepSpeedAbove, Use::kNone},
    ByName{"model_world_size_#_rank_#.pt", "what one rank of verl had of the model", kVerl,
           Use::kSlice},
    ByName{"optim_world_size_#_rank_#.pt", "what one rank of verl had of the optimizer", kVerl,
           Use::kSlice},
    ByName{"*.distcp",
           "a rank's file of a DCP checkpoint, whose .metadata says which tensors lie where",
           "copy the checkpoint again, with the files whose names begin with a dot: "
           "rsync -a SOURCE/ {dir}/, or cp -r SOURCE {dir}; cp SOURCE/* leaves them out",
           Use::kNeedsOthers},
    ByName{"consolidated.#.pth", "a model's weights as its publisher stores them", kOriginals,
           Use::kSliceIfMany},
    ByName{"consolidated.safetensors", "a model's weights as its publisher stores them", kOriginals,
           Use::kItself},
    ByName{"pytorch_model_fsdp*.bin", "a model's whole state dict, as accelerate saves it", kGiveFile,
           Use::kItself},
    ByName{"model.*.safetensors", "a variant of a model's weights, which is not taken unasked",
           kGiveFile, Use::kItself},
    ByName{"pytorch_model.*.bin", "a variant of a model's weights, which is not taken unasked",
           kGiveFile, Use::kItself},
    ByName{"*-#-of-#.safetensors", "one file of several with a model's weights", kGiveDirectory,
           Use::kPart},
    ByName{"*-#-of-#.bin", "one file of several with a model's weights", kGiveDirectory, Use::kPart},
    ByName{"*.gguf", "a GGUF file, the form of llama.cpp",
           "take the Hugging Face checkpoint that it was made from", Use::kNone},
    ByName{"flax_model*.msgpack", "a model's weights for Flax", "{flax}", Use::kNone},
    ByName{"tf_model*.h5", "a model's weights for TensorFlow", "{tf}", Use::kNone},
    ByName{"*.onnx", "a model for ONNX's runtimes",
           "take the PyTorch checkpoint that it was made from", Use::kNone},
    ByName{"*.nemo", "NeMo's archive of a model, a tar",
           "unpack it and look at what is in it: tar xf {dir}/{file}", Use::kNone},
    ByName{"*.zip", "a zip archive", "unpack it: unzip {dir}/{file}", Use::kNone},
    ByName{"*.npz", "a file of numpy.savez",
           "save its arrays as safetensors: "
           "safetensors.numpy.save_file(dict(numpy.load('{file}')), 'model.safetensors')",
           Use::kNone},
    ByName{"tp_rank_#_pp_rank_#", "what one rank of NeMo 1.0 has saved", megatron::kNemoHelp,
           Use::kNone},
    ByName{"model_weights.ckpt", "the weights of NeMo 1.0, in Megatron's names", megatron::kNemoHelp,
           Use::kNone},
    ByName{"optimizer*", "a training run's state, which has no weights", "", Use::kState},
    ByName{"scheduler*", "a training run's state, which has no weights", "", Use::kState},
    ByName{"training_args.bin", "a training run's state, which has no weights", "", Use::kState},
    ByName{"trainer_state.json", "a training run's state, which has no weights", "", Use::kState},
    ByName{"rng_state*", "a training run's state, which has no weights", "", Use::kState},
    ByName{"random_states*", "a training run's state, which has no weights", "", Use::kState},
    ByName{"*.safetensors", "a file that may be one", kGiveFile, Use::kItself},
    ByName{"*.pt", "a file that may be one", kGiveFile, Use::kItself},
    ByName{"*.pth", "a file that may be one", kGiveFile, Use::kItself},
    ByName{"*.ckpt", "a file that may be one", kGiveFile, Use::kItself},
    ByName{"*.bin", "a file that may be one", kGiveFile, Use::kItself},
    ByName{"config.json", "the description of a model, without its weights",
           "download the weights too: hf download, or git lfs pull in a clone", Use::kState},
    ByName{"tokenizer.json", "a tokenizer, without a model", "", Use::kState},
};

// The same by the first bytes of a file, which tell more than its name. Letters of `bytes` are lower
// case, and stand for both.
struct ByContent {
  size_t offset;
  std::string_view bytes;
  std::string_view what;
  std::string_view help;
};

constexpr std::string_view kDownloadAgain =
    "download the file again, and look at what the server answers: it may want a login or a token";

constexpr std::array kByContent = {
    ByContent{0, "version https://git-lfs",
              "a git-lfs pointer: the text that stands for a file until that is downloaded",
              "download what it stands for: git lfs pull in {dir}, or hf download for a repository of "
              "the Hugging Face hub"},
    ByContent{0, "<!doctype", "a web page", kDownloadAgain},
    ByContent{0, "<html", "a web page", kDownloadAgain},
    ByContent{0, "<?xml", "a server's answer in XML", kDownloadAgain},
    ByContent{0, "gguf", "a GGUF file, the form of llama.cpp",
              "take the Hugging Face checkpoint that it was made from"},
    ByContent{0, "\x89hdf\r\n", "an HDF5 file, as Keras and TensorFlow write it",
              "take the PyTorch checkpoint of the model"},
    ByContent{0, "\x93numpy", "an array of numpy.save",
              "save it as safetensors: safetensors.numpy.save_file({{'name': array}}, "
              "'model.safetensors')"},
    ByContent{0, "\x1f\x8b", "a file that gzip has compressed", "unpack it: gunzip, or tar xzf"},
    ByContent{0, "\x28\xb5\x2f\xfd", "a file that zstd has compressed", "unpack it: zstd -d"},
    ByContent{0, "\xfd" "7zxz", "a file that xz has compressed", "unpack it: xz -d, or tar xJf"},
};

constexpr size_t kHeadBytes = 512;
constexpr size_t kShownCharacters = 40;

// Whether a name is what a pattern of the table says.
bool Fits(std::string_view pattern, std::string_view name) {
  while (!pattern.empty()) {
    if (pattern[0] == '*') {
      for (size_t skip = 0; skip <= name.size(); ++skip)
        if (Fits(pattern.substr(1), name.substr(skip))) return true;
      return false;
    }
    if (name.empty()) return false;
    if (pattern[0] == '#') {
      const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
      if (digits == 0) return false;
      name.remove_prefix(digits);
    } else {
      if (pattern[0] != name[0]) return false;
      name.remove_prefix(1);
    }
    pattern.remove_prefix(1);
  }
  return name.empty();
}

const ByName* RowOf(std::string_view name) {
  const auto row = std::ranges::find_if(
      kByName, [&](const ByName& candidate) { return Fits(candidate.pattern, name); });
  return row == kByName.end() ? nullptr : &*row;
}

using Names = std::vector<std::string>;

size_t CountLike(std::string_view pattern, const Names& names) {
  return static_cast<size_t>(std::ranges::count_if(
      names, [&](const std::string& name) { return Fits(pattern, name); }));
}

// The help of a row with the names put in.
std::string Filled(std::string_view help, const std::string& directory, const std::string& file) {
  if (help == "{flax}" || help == "{tf}") {
    const std::string_view framework = help.substr(1, help.size() - 2);
    return fmt::format(fmt::runtime(kOtherFramework), fmt::arg("dir", Printable(directory)),
                       fmt::arg("framework", framework));
  }
  return fmt::format(fmt::runtime(help), fmt::arg("dir", Printable(directory)),
                     fmt::arg("file", Printable(file)));
}

struct Seen {
  const ByName* row = nullptr;
  std::string name;
};

// The row that says most of a directory, and the name that fits it.
Seen LookThrough(const Names& names) {
  const auto rank = [](const ByName* row) {
    return row - kByName.data() + (row->use == Use::kState ? std::ssize(kByName) : 0);
  };
  Seen best;
  for (const std::string& name : names) {
    const ByName* row = RowOf(name);
    if (row != nullptr && (best.row == nullptr || rank(row) < rank(best.row))) best = {row, name};
  }
  return best;
}

std::string_view DirectoryHelp(const Seen& seen, const Names& names) {
  const bool many =
      seen.row->use == Use::kSliceIfMany && CountLike(seen.row->pattern, names) > 1;
  return many ? kManyOriginals : seen.row->help;
}

// A link in a cache of the hub leads to a blob that may have been deleted.
std::optional<Error> TellDanglingLink(const fs::path& file) {
  std::error_code code;
  if (!fs::is_symlink(file, code) || fs::exists(file, code)) return std::nullopt;
  const std::string repository = HubRepositoryOf(file);
  return Error{.kind = ErrorKind::kSource,
               .file = file.string(),
               .found = fmt::format("this is a link to '{}', which is not there",
                                    Printable(fs::read_symlink(file, code).string())),
               .expected = "the file that it stands for",
               .help = repository.empty()
                           ? "copy the checkpoint again with what its links lead to: rsync -aL, or "
                             "cp -rL"
                           : fmt::format("it was deleted from the hub's cache: hf download {}",
                                         repository)};
}

std::string HeadOf(const fs::path& path) {
  const auto file = InputFile::Open(path);
  if (!file) return {};
  std::string head(std::min<uint64_t>((*file)->size(), kHeadBytes), '\0');
  if (!(*file)->ReadAt(0, std::as_writable_bytes(std::span(head)))) return {};
  return head;
}

bool IsText(std::string_view head) {
  return !head.empty() && std::ranges::all_of(head, [](unsigned char c) {
    return c >= 0x20 ? c != 0x7f : std::isspace(c) != 0;
  });
}

bool Begins(std::string_view head, const ByContent& row) {
  if (head.size() < row.offset + row.bytes.size()) return false;
  return std::ranges::equal(head.substr(row.offset, row.bytes.size()), row.bytes,
                            [](unsigned char c, char lower) {
                              return static_cast<char>(std::tolower(c)) == lower;
                            });
}

struct Told {
  std::string what;
  std::string help;
};

// What a file is that could not be read as what its name says.
std::optional<Told> TellByContent(const fs::path& path) {
  const std::string head = HeadOf(path);
  const std::string directory = path.parent_path().string();
  const size_t start = std::min(head.find_first_not_of(" \t\r\n"), head.size());
  const std::string_view content = std::string_view(head).substr(start);
  for (const ByContent& row : kByContent)
    if (Begins(content, row))
      return Told{std::string(row.what), Filled(row.help, directory, path.filename().string())};
  const ByName* row = RowOf(path.filename().string());
  if (row == nullptr) return std::nullopt;
  if (row->use == Use::kNone)
    return Told{std::string(row->what), Filled(row->help, directory, path.filename().string())};
  // A weight file is never a text; a server's answer may be ("Entry not found").
  if (row->use == Use::kState || !IsText(content)) return std::nullopt;
  return Told{fmt::format("a text that begins '{}'",
                          Printable(content.substr(0, std::min(content.find('\n'),
                                                               kShownCharacters)))),
              std::string(kDownloadAgain)};
}

}  // namespace

Error TellWhatIsMissing(const std::string& path) {
  if (auto link = TellDanglingLink(path)) return *std::move(link);
  Error error{.kind = ErrorKind::kSource,
              .file = path,
              .found = "there is no such file or directory",
              .expected = "a checkpoint",
              .help = "check the path"};
  std::error_code code;
  if (!IsHubRepository(path) || fs::exists(fs::path(path).parent_path(), code)) return error;
  error.kind = ErrorKind::kUsage;
  error.found += "; it looks like a repository of the Hugging Face hub";
  error.expected = "a directory or file of this machine";
  const fs::path cached = FindInHubCache(path);
  error.help = cached.empty()
                   ? fmt::format("download it and give the directory that this prints: hf download {}",
                                 path)
                   : fmt::format("it has been downloaded: give {}", Printable(cached.string()));
  return error;
}

Error TellWhatDirectoryIs(const std::string& path, const fs::path& directory,
                          const std::vector<std::string>& below) {
  Error error{.kind = ErrorKind::kSource,
              .file = path,
              .found = "this directory is no checkpoint that reshard can read",
              .expected = "a .metadata file (DCP), mp_rank_* directories (Megatron), or "
                          "model.safetensors, its index, or pytorch_model.bin (Hugging Face)",
              .help = "check the path; for a file of torch.save give the file itself"};
  const Names names = ListDirectory(directory).value_or(Names());
  if (std::ranges::binary_search(names, ".metadata.tmp")) {
    error.found = "there is a .metadata.tmp but no .metadata: the save was never finished";
    error.help = "take an earlier checkpoint: without its metadata this one cannot be read";
  } else if (const Seen seen = LookThrough(names); seen.row != nullptr) {
    error.found += fmt::format(": {} is {}", Printable(seen.name), seen.row->what);
    const std::string_view help = DirectoryHelp(seen, names);
    if (!help.empty()) error.help = Filled(help, path, seen.name);
    if (seen.row->use != Use::kState && !below.empty()) {
      error.help += fmt::format("; below lie {}", fmt::join(below, ", "));
      return error;
    }
  }
  if (megatron::ParseRankName(directory.filename().string()))
    error.help = "this is one rank of a Megatron checkpoint: give the directory above";
  else if (!below.empty())
    error.help = fmt::format("did you mean {}?", fmt::join(below, " or "));
  return error;
}

std::optional<Error> TellWhatFileIs(const fs::path& file) {
  const ByName* row = RowOf(file.filename().string());
  if (row == nullptr || row->use != Use::kNeedsOthers) return std::nullopt;
  const fs::path directory = AbsolutePath(file).value_or(file).parent_path();
  return Error{.kind = ErrorKind::kSource,
               .file = file.string(),
               .found = fmt::format("this is {}", row->what),
               .expected = "the checkpoint, with all its files",
               .help = Filled(kGiveDirectory, directory.string(), "")};
}

Error TellWhatFailed(Error error) {
  if (error.kind != ErrorKind::kSource || error.file.empty()) return error;
  if (auto link = TellDanglingLink(error.file)) {
    link->tensor = error.tensor;
    return *std::move(link);
  }
  std::error_code code;
  if (!fs::is_regular_file(error.file, code)) return error;
  if (auto told = TellByContent(error.file))
    return {.kind = ErrorKind::kSource,
            .file = error.file,
            .found = fmt::format("this is {}", told->what),
            .expected = "a file of a checkpoint",
            .help = std::move(told->help)};
  return error;
}

Result<> CheckIsModel(const Source& source, bool by_recipe) {
  if (source.kind() != "hf" && source.kind() != "pt") return {};
  const auto& files = source.catalog().files();
  for (const SourceFile& file : files) {
    const std::string name = fs::path(file.path).filename().string();
    const ByName* row = RowOf(name);
    if (row == nullptr) continue;
    bool refused = row->use == Use::kSlice;
    if (row->use == Use::kSliceIfMany && files.size() == 1) {
      RESHARD_ASSIGN(const Names beside, ListDirectory(source.root()));
      refused = CountLike(row->pattern, beside) > 1;
    }
    if (row->use == Use::kOther) refused = !by_recipe;
    if (row->use == Use::kPart)
      refused = !by_recipe && files.size() == 1 && !name.contains("-of-00001.");
    if (!refused) continue;
    return std::unexpected(
        Error{.kind = ErrorKind::kSource,
              .file = (fs::path(source.root()) / file.path).string(),
              .found = fmt::format("this is {}", row->what),
              .expected = "all weights of a model",
              .help = Filled(row->use == Use::kSliceIfMany ? kManyOriginals : row->help,
                             source.root(), name)});
  }
  return {};
}

}  // namespace reshard
