#include "plan/source_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/try.h"
#include "plan/check_order.h"
#include "plan/coverage.h"
#include "view/lower.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

constexpr size_t kNamesShown = 3;

class SourceCheck {
 public:
  SourceCheck(const SourceUses& uses, const Catalog& catalog) : uses_(uses), catalog_(catalog) {
    for (const Tensor& tensor : catalog.tensors()) {
      copied_.emplace_back(tensor.shape);
      left_out_.emplace_back(tensor.shape);
    }
    scaling_.resize(catalog.tensors().size());
    for (const Dropped& drop : uses.dropped)
      if (drop.by != LeftOutBy::kLlmFrom) dropped_.insert(drop.name);
  }

  Result<> Run() {
    RESHARD_TRY(CheckReplaced());
    for (const SourceUses::Copy& copy : uses_.copies) Take(*copy.view, &copied_);
    for (const Check& check : uses_.checks) {
      if (check.view.dtype() != check.equals.dtype() || check.view.shape() != check.equals.shape())
        return std::unexpected(MappingFault(
            check.name,
            fmt::format("a check of {} {} against {} {}", DTypeName(check.view.dtype()),
                        ShapeText(check.view.shape()), DTypeName(check.equals.dtype()),
                        ShapeText(check.equals.shape())),
            "two views of the same type and shape"));
      Take(check.view, &left_out_);
    }
    for (const DroppedPart& part : uses_.dropped_parts) Take(part.view, &left_out_);
    for (uint32_t i = 0; i < copied_.size(); ++i) RESHARD_TRY(CheckTensor(i));
    return CheckOrder(uses_.checks, dropped_, catalog_);
  }

 private:
  // What is not in the catalog has another tensor of its name there.
  Result<> CheckReplaced() const {
    for (const Dropped& drop : uses_.dropped)
      if (drop.by == LeftOutBy::kLlmFrom && !catalog_.Find(drop.name))
        return std::unexpected(MappingFault(drop.name, "it is replaced, and nothing replaces it",
                                            "another tensor of that name"));
    return {};
  }

  void Take(const View& view, std::vector<Coverage>* coverages) {
    (void)LowerWhole(view, [&](const Region& region) -> Result<> {
      if (region.source == Region::kFill) return {};
      Scaling& scaling = scaling_[region.source];
      if (region.dequantize) {
        const uint32_t scales = region.dequantize->inputs()[1].source();
        scaling.differs |= scaling.scales && scaling.scales != scales;
        scaling.scales = scales;
        scaling_[scales].of = region.source;
      } else {
        scaling.bare = true;
      }
      if (!region.repeats) (*coverages)[region.source].Add(region);
      return {};
    });
  }

  // A scale is in the product with each value of its block: it is not lost where all values are
  // multiplied by it, those apart that are left out themselves.
  Result<> CheckScaling(uint32_t index) const {
    const Scaling& scaling = scaling_[index];
    const std::string& name = catalog_.tensors()[index].name;
    if (scaling.scales && (scaling.bare || scaling.differs))
      return std::unexpected(MappingFault(
          name,
          scaling.bare ? "a part of it is multiplied by its scales, another part is not"
                       : "parts of it are multiplied by scales of several tensors",
          fmt::format("all of it multiplied by '{}'", catalog_.tensors()[*scaling.scales].name)));
    if (scaling.of && (scaling.bare || scaling.scales || dropped_.contains(name)))
      return std::unexpected(MappingFault(
          name,
          fmt::format("'{}' is multiplied by it, and it is also {}",
                      catalog_.tensors()[*scaling.of].name,
                      dropped_.contains(name) ? "dropped" : "copied or left out"),
          "one of the two"));
    return {};
  }

  Result<> CheckTensor(uint32_t index) {
    RESHARD_TRY(CheckScaling(index));
    if (scaling_[index].of) return {};
    const Tensor& tensor = catalog_.tensors()[index];
    Coverage& copied = copied_[index];
    const Coverage& left_out = left_out_[index];
    if (dropped_.contains(tensor.name)) {
      if (copied.empty() && left_out.empty()) return {};
      return std::unexpected(MappingFault(
          tensor.name,
          fmt::format("it is both dropped and {}", copied.empty() ? "checked" : "copied"),
          "one of the two"));
    }
    const size_t times = TimesCopied(tensor, copied, left_out);
    copied.Add(left_out, times);
    const auto fault = copied.FindFault(times);
    if (!fault) return {};
    return std::unexpected(MappingFault(
        tensor.name,
        copied.empty() ? "no tensor of the target holds it" : Describe(index, *fault, times),
        "every element of the source copied once, equal to one that is, or dropped by name"));
  }

  size_t TimesCopied(const Tensor& tensor, const Coverage& copied, const Coverage& left_out) const {
    const __int128 rest = tensor.numel() - left_out.taken();
    if (uses_.replicas == Replicas::kNone || rest <= 0) return 1;
    return static_cast<size_t>(std::max<__int128>(copied.taken() / rest, 1));
  }

  std::string Describe(uint32_t index, const Coverage::Fault& fault, size_t times) const {
    const std::string element = ShapeText(fault.element);
    if (fault.taken == 0)
      return fmt::format("no tensor of the target holds its element {}", element);
    if (fault.taken == times) return "its parts are spread in too intricate a pattern to check";
    std::vector<std::string> takers;
    const auto note = [&](const View& view, std::string text) {
      (void)LowerWhole(view, [&](const Region& region) -> Result<> {
        if (region.source == index && Takes(region, fault.element)) takers.push_back(text);
        return {};
      });
    };
    for (const auto& copy : uses_.copies) note(*copy.view, fmt::format("'{}' holds it", copy.name));
    for (const Check& check : uses_.checks) note(check.view, "a check leaves it out");
    for (const DroppedPart& part : uses_.dropped_parts) note(part.view, "it is dropped");
    if (takers.size() > kNamesShown) {
      takers.resize(kNamesShown);
      takers.push_back("...");
    }
    const std::string others =
        times == 1 ? "" : fmt::format(", where others are held {} times", times);
    return fmt::format("its element {} stands in {} places{}: {}", element, takers.size(), others,
                       fmt::join(takers, ", "));
  }

  // How the values of a source tensor are made.
  struct Scaling {
    std::optional<uint32_t> scales;  // what its values are multiplied by
    std::optional<uint32_t> of;      // whose scales it holds
    bool differs = false;            // other parts are multiplied by other scales
    bool bare = false;               // some values are taken as they are
  };

  const SourceUses& uses_;
  const Catalog& catalog_;
  std::vector<Scaling> scaling_;    // by source tensor
  std::vector<Coverage> copied_;    // by source tensor
  std::vector<Coverage> left_out_;  // by source tensor: checked, or dropped in part
  std::set<std::string_view> dropped_;
};

}  // namespace

Error MappingFault(std::string tensor, std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kMapping,
               .tensor = std::move(tensor),
               .found = std::move(found),
               .expected = std::move(expected),
               .help = "the recipe does not fit this checkpoint: reshard recipe show prints it"};
}

Result<> CheckSource(const SourceUses& uses, const Catalog& catalog) {
  return SourceCheck(uses, catalog).Run();
}

}  // namespace reshard
