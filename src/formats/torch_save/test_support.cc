#include "formats/torch_save/test_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <span>

#include "base/endian.h"
#include "formats/zip/archive_layout.h"
#include "formats/zip/checksum.h"

namespace reshard::torch_save {
namespace {

bool IsComplex(DType dtype) {
  return dtype == DType::kComplex32 || dtype == DType::kComplex64 || dtype == DType::kComplex128;
}

// `out` is one element; floats are negated by their top bit.
void Resolve(const TensorEntry& tensor, std::span<char> out) {
  const size_t halves = IsComplex(tensor.dtype) ? 2 : 1;
  for (size_t half = 0; half < halves; ++half) {
    const auto part = out.subspan(half * out.size() / halves, out.size() / halves);
    if (tensor.big_endian) std::ranges::reverse(part);
    if (tensor.negate != (tensor.conjugate && half == 1))
      part.back() = static_cast<char>(part.back() ^ 0x80);
  }
}

}  // namespace

std::string TestFile(const std::string& path) {
  std::ifstream file(RESHARD_TEST_DATA "/" + path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Gather(const ByteSource& source, const TensorEntry& tensor) {
  int64_t numel = 1;
  for (const int64_t dim : tensor.shape) numel *= dim;
  const auto item = static_cast<uint64_t>(ItemSize(tensor.dtype));
  std::string out(static_cast<uint64_t>(numel) * item, '\0');
  for (int64_t i = 0; i < numel; ++i) {
    int64_t element = tensor.storage_offset;
    int64_t rest = i;
    for (size_t d = tensor.shape.size(); d-- > 0;) {
      element += rest % tensor.shape[d] * tensor.strides[d];
      rest /= tensor.shape[d];
    }
    const uint64_t offset = static_cast<uint64_t>(element) * item;
    EXPECT_LE(offset + item, tensor.storage_bytes);
    const auto place = std::span(out).subspan(static_cast<uint64_t>(i) * item, item);
    EXPECT_TRUE(source.ReadAt(tensor.data_offset + offset, std::as_writable_bytes(place)));
    Resolve(tensor, place);
  }
  return out;
}

std::string Assemble(const FileLayout& layout, const std::vector<std::string>& data) {
  std::string file(layout.size, '\xee');
  for (const Literal& literal : layout.literals)
    file.replace(literal.offset, literal.bytes.size(), literal.bytes);
  for (size_t i = 0; i < data.size(); ++i) file.replace(layout.slots[i], data[i].size(), data[i]);
  for (const LateCrc& late : layout.late_crcs) {
    const uint32_t crc =
        zip::Crc32(std::string_view(file).substr(late.begin, late.end - late.begin));
    for (const uint64_t at : late.targets) StoreLittle(crc, file.data() + at);
  }
  EXPECT_EQ(file.size(), layout.size);
  return file;
}

void ExpectAsTorchWrites(std::string_view ours, std::string_view torch) {
  constexpr size_t kEndRecords = 98;
  const size_t last = torch.find("/.data/serialization_id");
  ASSERT_NE(last, torch.npos);
  const size_t directory = ours.find("PK\1\2");
  ASSERT_NE(directory, ours.npos);
  const size_t records = torch.rfind("PK\3\4", last);
  EXPECT_EQ(ours.substr(0, directory), torch.substr(0, records));
  ASSERT_GT(ours.size(), directory + kEndRecords);
  const size_t length = ours.size() - kEndRecords - directory;
  EXPECT_EQ(ours.substr(directory, length), torch.substr(torch.find("PK\1\2"), length));
}

std::string FromHex(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return out;
}

std::string Zip(const std::vector<std::pair<std::string, std::string>>& records) {
  zip::ArchiveLayout archive("archive");
  for (const auto& [name, bytes] : records) archive.AddLiteral(name, bytes);
  const FileLayout layout = std::move(archive).Finish();
  EXPECT_EQ(layout.literals.size(), 1u);
  return layout.literals[0].bytes;
}

std::string TorchZip(const std::string& pickle, const std::string& storage) {
  return Zip({{"data.pkl", pickle}, {"data/0", storage}, {"version", "3\n"}});
}

std::string Pickle(const std::string& body) { return "\x80\x02" + body + "."; }

std::string Text(std::string_view text) {
  std::string out = "X";
  AppendLittle(static_cast<uint32_t>(text.size()), &out);
  return out.append(text);
}

std::string Int(int64_t number) {
  std::string out = "\x8a\x08";
  AppendLittle(number, &out);
  return out;
}

std::string Tuple(const std::vector<int64_t>& numbers) {
  std::string out = "(";
  for (const int64_t number : numbers) out += Int(number);
  return out + "t";
}

std::string TensorPickle::Body() const {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + Text("storage") + "c" + storage_class + "\n" +
         Text("0") + Text("cpu") + Int(numel) + "tQ" + Int(offset) + Tuple(shape) + Tuple(strides) +
         "\x89" + "ccollections\nOrderedDict\n)R" + metadata + "tR";
}

}  // namespace reshard::torch_save
