#pragma once

#include <string>
#include <string_view>

#include "text/jinja_ast.h"

namespace sabrewing::text::jinja {

/// Variables of one running function. `clear` drops them, where a macro or loop keeps the frame alive.
class Frame final : public Object, public std::enable_shared_from_this<Frame> {
 public:
  Frame(Runtime& runtime, const FunctionPlan& plan, std::shared_ptr<Frame> outer)
      : slots(plan.slots),
        parent(std::move(outer)),
        charge(runtime.charge(sizeof(Frame) + plan.slots * sizeof(Value))) {}
  void clear() {
    slots.clear();
    parent.reset();
  }

  std::vector<Value> slots;
  std::shared_ptr<Frame> parent;
  Charge charge;
  bool adopted = false;  ///< a closure refers to it
};

/// Runs one template once.
class Interpreter {
 public:
  Interpreter(const Template& root, const Dict& context, Runtime& runtime);

  std::string run();

  Runtime& runtime() { return runtime_; }
  /// Calls a filter or test by a name that is only known now.
  Value call_filter(const Value& name, const Value& value, const Arguments& arguments);
  Value call_test(const Value& name, const Value& value, const Arguments& arguments);

  /// The body of a macro or call block with its arguments in place.
  std::string run_macro(const Stmt& macro, const std::shared_ptr<Frame>& outer,
                        const std::vector<Value>& parameters, const Value& caller, const Value& kwargs,
                        const Value& varargs);
  /// One level of a recursive loop.
  std::string run_recursive(const Stmt& loop, const std::shared_ptr<Frame>& outer, const Value& iterable,
                            int depth);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  friend class ConditionIterator;

  Flow exec(const Body& body, Frame& frame, std::string& out);
  Flow exec(const Stmt& s, Frame& frame, std::string& out);
  Flow exec_for(const Stmt& s, Frame& frame, const Value& iterable, int depth, std::string& out);
  void exec_call_block(const Stmt& s, Frame& frame, std::string& out);
  void exec_set(const Stmt& s, Frame& frame);
  void emit(std::string& out, std::string_view text);

  Value eval(const Expr& expr, Frame& frame);
  Value eval_compare(const Expr& expr, Frame& frame);
  Value eval_filter(const Expr& expr, Frame& frame, const Value* body);
  Arguments eval_arguments(const Expr& expr, Frame& frame);
  void assign(const Expr& target, const Value& value, Frame& frame);
  /// The loop target's variables as a value again.
  Value reread(const Expr& target, Frame& frame);

  Value& variable(const VariableRef& reference, Frame& frame);
  void enter(const ScopePlan& scope, Frame& frame);
  void leave(const ScopePlan& scope, Frame& frame);
  std::shared_ptr<Frame> capture(Frame& frame);
  Value make_macro(const Stmt& s, Frame& frame);

  const Template& template_;
  const Dict& context_;
  Runtime& runtime_;
};

}  // namespace sabrewing::text::jinja
