#include "formats/torch_save/state_dict_pickle.h"

#include <utility>
#include <variant>

#include "formats/pickle/writer.h"
#include "formats/torch_save/tensor_pickle.h"

namespace reshard::torch_save {
namespace {

class DictPickler {
 public:
  std::string Pickle(const Dict& dict) && {
    Write(dict);
    return std::move(out_).Take();
  }

 private:
  void Write(const Dict& dict) {
    out_.Put(pickle::Op::kEmptyDict);
    out_.Memoize();
    out_.SetItems(dict.items.size(), [&](size_t i) {
      Write(dict.items[i].key);
      std::visit([this](const auto& value) { Write(value); }, dict.items[i].value);
    });
  }

  void Write(const TensorDecl* tensor) { pickler_.Write(tensor->dtype, tensor->shape, tensors_++); }
  void Write(int64_t number) { out_.Int(number); }
  void Write(double number) { out_.Float(number); }
  void Write(const std::string& text) {
    out_.Text(text);
    out_.Memoize();
  }

  pickle::Writer out_;
  TensorPickler pickler_{&out_};
  size_t tensors_ = 0;
};

}  // namespace

std::string PickleDict(const Dict& dict) { return DictPickler().Pickle(dict); }

}  // namespace reshard::torch_save
