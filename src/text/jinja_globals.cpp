#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <limits>

#include "text/jinja_builtins.h"
#include "text/jinja_ops.h"

namespace sabrewing::text::jinja {
namespace {

constexpr std::size_t kMaxRange = 100000;

using GlobalFunction = Value (*)(Runtime& runtime, const Arguments& arguments);

class BuiltinFunction final : public Instance {
 public:
  BuiltinFunction(std::string_view name, GlobalFunction function) : name_(name), function_(function) {}
  std::string type_name() const override { return "function"; }
  std::string repr(Runtime&) const override { return fmt::format("<function {}>", name_); }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override { return function_(runtime, arguments); }

 private:
  std::string name_;
  GlobalFunction function_;
};

Value make_range(Runtime& runtime, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "range", arguments, {"/start", "/stop", "/step"}, 1);
  Integer part[3] = {0, 0, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    if (!bound[i].is_missing()) part[i] = integer_argument(runtime, bound[i], "an argument of range()");
  }
  if (bound[1].is_missing()) std::swap(part[0], part[1]);
  auto range = std::make_shared<Range>();
  range->start = part[0];
  range->stop = part[1];
  range->step = part[2];
  if (range->step == 0) runtime.fail("range() arg 3 must not be zero");
  const Integer span = range->step > 0 ? range->stop - range->start : range->start - range->stop;
  const Integer stride = range->step > 0 ? range->step : -range->step;
  const Integer count = span <= 0 ? 0 : (span - 1) / stride + 1;
  if (count > static_cast<Integer>(kMaxRange)) runtime.fail("range() of more than {} items", kMaxRange);
  range->count = static_cast<std::size_t>(count);
  return Value::object(Kind::kRange, std::move(range));
}

/// dict(mapping or pairs, **named).
std::shared_ptr<Dict> collect_entries(Runtime& runtime, const Arguments& arguments,
                                      std::string_view function) {
  auto out = runtime.new_dict();
  if (arguments.positional.size() > 1) runtime.fail("{} takes at most one positional argument", function);
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    require_defined(runtime, source);
    if (source.is(Kind::kDict)) {
      for (const auto& [key, value] : source.as<Dict>().entries()) out->set(runtime, key, value);
    } else {
      for (const Value& pair : to_vector(runtime, source)) {
        const std::vector<Value> parts = to_vector(runtime, pair);
        if (parts.size() != 2)
          runtime.fail("dictionary update sequence element has length {}; 2 is required", parts.size());
        out->set(runtime, parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) out->set(runtime, runtime.string(name), value);
  return out;
}

Value dict_from_keys(Runtime& runtime, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "fromkeys", arguments, {"/iterable", "/value"}, 1);
  auto out = runtime.new_dict();
  const Value value = bound[1].is_missing() ? Value::none() : bound[1];
  for (const Value& key : to_vector(runtime, bound[0])) out->set(runtime, key, value);
  return runtime.dict(std::move(out));
}

class DictType final : public Instance {
 public:
  std::string type_name() const override { return "TemplateDict"; }
  bool callable() const override { return true; }
  Value attribute(Runtime& runtime, std::string_view name) override {
    if (name != "fromkeys") return {};
    return runtime.instance(std::make_shared<BuiltinFunction>("fromkeys", dict_from_keys));
  }
  Value call(Runtime& runtime, const Arguments& arguments) override {
    return runtime.dict(collect_entries(runtime, arguments, "dict()"));
  }
};

Value make_namespace(Runtime& runtime, const Arguments& arguments) {
  const auto entries = collect_entries(runtime, arguments, "namespace()");
  Value out = runtime.new_namespace();
  for (const auto& [key, value] : entries->entries()) {
    if (key.is_string() && !key.text().empty() && key.text()[0] == '_') {
      runtime.fail("a namespace cannot have the underscore-prefixed attribute {}", string_repr(key.text()));
    }
    out.as<Namespace>().attributes.set(runtime, key, value);
  }
  return out;
}

class Cycler final : public Instance, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  std::string type_name() const override { return "Cycler"; }
  Value attribute(Runtime& runtime, std::string_view name) override;
  Value next() {
    Value out = items_[position_];
    position_ = (position_ + 1) % items_.size();
    return out;
  }
  void reset() { position_ = 0; }

 private:
  std::vector<Value> items_;
  std::size_t position_ = 0;
};

class CyclerMethod final : public Instance {
 public:
  CyclerMethod(std::shared_ptr<Cycler> cycler, bool reset) : cycler_(std::move(cycler)), reset_(reset) {}
  std::string type_name() const override { return "method"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override {
    bind_arguments(runtime, reset_ ? "reset" : "next", arguments, {}, 0);
    if (!reset_) return cycler_->next();
    cycler_->reset();
    return Value::none();
  }

 private:
  std::shared_ptr<Cycler> cycler_;
  bool reset_;
};

Value Cycler::attribute(Runtime& runtime, std::string_view name) {
  if (name == "current") return items_[position_];
  if (name == "pos") return Value::integer(static_cast<Integer>(position_));
  if (name == "items") return runtime.tuple(items_);
  if (name != "next" && name != "reset") return {};
  return runtime.instance(std::make_shared<CyclerMethod>(shared_from_this(), name == "reset"), depth);
}

Value make_cycler(Runtime& runtime, const Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty())
    runtime.fail("cycler() needs at least one item");
  return runtime.instance(std::make_shared<Cycler>(arguments.positional), arguments.depth());
}

class Joiner final : public Instance {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value attribute(Runtime&, std::string_view name) override {
    if (name == "sep") return separator_;
    if (name == "used") return Value::boolean(used_);
    return {};
  }
  Value call(Runtime& runtime, const Arguments& arguments) override {
    bind_arguments(runtime, "joiner", arguments, {}, 0);
    if (used_) return separator_;
    used_ = true;
    return runtime.string(std::string());
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value make_joiner(Runtime& runtime, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "joiner", arguments, {"sep"}, 0);
  const Value separator = bound[0].is_missing() ? runtime.string(std::string(", ")) : bound[0];
  return runtime.instance(std::make_shared<Joiner>(separator), separator.depth());
}

Value raise_exception(Runtime& runtime, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "raise_exception", arguments, {"message"}, 1);
  runtime.fail_with(str(runtime, bound[0]));
}

Value strftime_now(Runtime& runtime, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "strftime_now", arguments, {"format"}, 1);
  return runtime.string(
      format_time(runtime, string_argument(runtime, bound[0], "the format of strftime_now()")));
}

Value lipsum(Runtime& runtime, const Arguments&) { runtime.refuse("lipsum() is not supported"); }

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
long days_from_civil(int year, int month, int day) {
  const int y = month <= 2 ? year - 1 : year;
  const int era = (y >= 0 ? y : y - 399) / 400;
  const int year_of_era = y - era * 400;
  const int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097L + day_of_era - 719468L;
}

}  // namespace

std::vector<Value> bind_arguments(Runtime& runtime, std::string_view function, const Arguments& arguments,
                                  std::initializer_list<std::string_view> names, std::size_t required) {
  std::vector<Value> out(names.size());
  if (arguments.positional.size() > names.size()) {
    runtime.fail("{}() takes at most {} arguments, got {}", function, names.size(),
                 arguments.positional.size());
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), out.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto* found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) runtime.fail("{}() got an unexpected keyword argument '{}'", function, name);
    Value& place = out[static_cast<std::size_t>(found - names.begin())];
    if (!place.is_missing()) runtime.fail("{}() got multiple values for argument '{}'", function, name);
    place = value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (out[i].is_missing()) runtime.fail("{}() is missing argument {}", function, i + 1);
  }
  return out;
}

Value find_global(Runtime& runtime, std::string_view name) {
  constexpr std::pair<std::string_view, GlobalFunction> kFunctions[] = {
      {"range", make_range},
      {"namespace", make_namespace},
      {"cycler", make_cycler},
      {"joiner", make_joiner},
      {"lipsum", lipsum},
      {"raise_exception", raise_exception},
      {"strftime_now", strftime_now},
  };
  for (const auto& [known, function] : kFunctions) {
    if (known == name) return runtime.instance(std::make_shared<BuiltinFunction>(name, function));
  }
  if (name == "dict") return runtime.instance(std::make_shared<DictType>());
  return {};
}

std::string format_time(Runtime& runtime, const std::string& format) {
  const LocalTime& now = runtime.now();
  // The wall clock has no time zone: %z and %Z are empty, and %f is the one directive C lacks.
  std::string c_format;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '\0') runtime.fail("embedded null character in the format of strftime_now()");
    if (format[i] != '%' || i + 1 >= format.size()) {
      c_format += format[i];
      continue;
    }
    const char directive = format[++i];
    if (directive == 'f') {
      c_format += fmt::format("{:06}", now.microsecond);
    } else if (directive != 'z' && directive != 'Z') {
      c_format += '%';
      c_format += directive;
    }
  }
  if (c_format.empty()) return {};
  std::tm parts{};
  parts.tm_year = now.year - 1900;
  parts.tm_mon = now.month - 1;
  parts.tm_mday = now.day;
  parts.tm_hour = now.hour;
  parts.tm_min = now.minute;
  parts.tm_sec = now.second;
  const long days = days_from_civil(now.year, now.month, now.day);
  parts.tm_wday = static_cast<int>(((days + 4) % 7 + 7) % 7);
  parts.tm_yday = static_cast<int>(days - days_from_civil(now.year, 1, 1));
  parts.tm_isdst = -1;
  // A final character tells an empty result from a buffer that is too small.
  c_format += '|';
  runtime.reserve_product(c_format.size(), 64);
  std::string out(c_format.size() * 64 + 256, '\0');
  const std::size_t size = std::strftime(out.data(), out.size(), c_format.c_str(), &parts);
  if (size == 0) runtime.fail("the result of strftime_now() is too long");
  out.resize(size - 1);
  return out;
}

}  // namespace sabrewing::text::jinja
