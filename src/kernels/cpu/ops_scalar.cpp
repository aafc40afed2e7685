#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/ops_impl.h"

namespace sabrewing::kernels::cpu {

const OpsKernels kOpsScalar = {rms_norm, add,          silu_glu, clamped_swiglu,
                               rotate,   exponentials, to_bf16,  attend};

}  // namespace sabrewing::kernels::cpu
