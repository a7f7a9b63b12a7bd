#include "formats/torch_save/entry_writer.h"

#include <array>
#include <string_view>
#include <utility>

#include "base/try.h"
#include "formats/pickle/writer.h"
#include "formats/torch_save/archive_writer.h"
#include "formats/torch_save/tensor_pickle.h"

namespace reshard::torch_save {
namespace {

constexpr std::string_view kArchiveName = "archive";  // what torch takes when it writes to a stream

struct PlainPickler {
  pickle::Writer& out;

  void operator()(std::monostate) const { out.None(); }
  void operator()(bool value) const { out.Bool(value); }
  void operator()(int64_t value) const { out.Int(value); }
  void operator()(double value) const { out.Float(value); }
  void operator()(const std::string& value) const {
    out.Text(value);
    out.Memoize();
  }
};

}  // namespace

Result<FileLayout> EncodeTensor(const TensorDecl& tensor) {
  RESHARD_ASSIGN(const uint64_t bytes, CountBytes(tensor.dtype, tensor.shape, tensor.name));
  pickle::Writer out;
  TensorPickler(&out).Write(tensor.dtype, tensor.shape, 0);
  return LayoutArchive(kArchiveName, std::move(out).Take(), std::array{bytes});
}

FileLayout EncodeValue(const PlainValue& value) {
  pickle::Writer out;
  std::visit(PlainPickler{out}, value);
  return LayoutArchive(kArchiveName, std::move(out).Take(), {});
}

}  // namespace reshard::torch_save
