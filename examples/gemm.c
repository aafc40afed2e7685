/*
 * One product with an MXFP4 weight on the CPU, or on the device named by the first argument ("cuda:0" needs the
 * operands in GPU memory, which this program does not do: it then only prints the plan).
 *
 *   cc gemm.c $(pkg-config --cflags --libs sabrewing) -o gemm && ./gemm
 */
#include <sabrewing/sabrewing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 48, K = 64, M = 3 };

static int check(int status, const char* what) {
  if (status == SABREWING_OK) return 1;
  fprintf(stderr, "%s: %s: %s\n", what, sabrewing_status_name(status), sabrewing_last_error());
  return 0;
}

int main(int argc, char** argv) {
  const char* device = argc > 1 ? argv[1] : "cpu";
  int result = 1;
  sabrewing_context* context = NULL;
  sabrewing_plan* plan = NULL;
  sabrewing_weight* weight = NULL;
  void* workspace = NULL;
  const char* text = NULL;

  if (sabrewing_abi_version() != SABREWING_ABI_VERSION) {
    fprintf(stderr, "the library has another ABI version: %u\n", (unsigned)sabrewing_abi_version());
    return 1;
  }

  sabrewing_context_desc context_desc;
  memset(&context_desc, 0, sizeof context_desc);
  context_desc.struct_size = sizeof context_desc;
  context_desc.device = device;
  if (!check(sabrewing_context_create(&context_desc, &context), "context")) return 1;

  /* MXFP4: E2M1 elements, one E8M0 scale for 32 columns. */
  sabrewing_weight_format format;
  memset(&format, 0, sizeof format);
  format.struct_size = sizeof format;
  format.block_n = 1;
  format.block_k = 32;
  if (!check(sabrewing_parse_element_type("float4e2m1", &format.element), "element")) goto end;
  if (!check(sabrewing_parse_element_type("float8e8m0", &format.scale), "scale")) goto end;

  sabrewing_gemm_desc desc;
  memset(&desc, 0, sizeof desc);
  desc.struct_size = sizeof desc;
  desc.weight = &format;
  desc.n = N;
  desc.k = K;
  desc.max_m = M;
  desc.output = SABREWING_F32;
  if (!check(sabrewing_plan_create(context, &desc, &plan), "plan")) goto end;
  if (!check(sabrewing_plan_explain(plan, &text), "explain")) goto end;
  printf("%s\n", text);
  if (strcmp(device, "cpu") != 0) {
    result = 0;
    goto end;
  }

  /* Every element 1.0 (code 2), every scale 2^1 (code 128): c = 2 * K for activations of 1. */
  static unsigned char values[N][K / 2], scales[N][K / 32];
  memset(values, 0x22, sizeof values);
  memset(scales, 128, sizeof scales);
  sabrewing_weight_rows rows;
  memset(&rows, 0, sizeof rows);
  rows.struct_size = sizeof rows;
  rows.values = values;
  rows.values_bytes = sizeof values;
  rows.scales = scales;
  rows.scales_bytes = sizeof scales;
  rows.rows = N;
  sabrewing_weight_source source;
  memset(&source, 0, sizeof source);
  source.struct_size = sizeof source;
  source.parts = &rows;
  source.part_count = 1;
  if (!check(sabrewing_weight_pack(plan, &source, NULL, 0, &weight), "pack")) goto end;

  static float a[M][K], c[M][N];
  for (int m = 0; m < M; ++m)
    for (int k = 0; k < K; ++k) a[m][k] = 1.0f;
  sabrewing_gemm_args args;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.a = a;
  args.a_dtype = SABREWING_F32;
  args.b = weight;
  args.c = c;
  args.m = M;
  if (!check(sabrewing_plan_workspace_bytes(plan, M, &args.workspace_bytes), "workspace")) goto end;
  workspace = aligned_alloc(64, (args.workspace_bytes + 63) / 64 * 64);
  args.workspace = workspace;
  if (workspace == NULL || !check(sabrewing_gemm_enqueue(plan, &args, NULL), "gemm")) goto end;
  printf("c[0][0] = %g\n", (double)c[0][0]);
  result = c[0][0] == 2.0f * K && c[M - 1][N - 1] == 2.0f * K ? 0 : 1;

end:
  free(workspace);
  sabrewing_weight_destroy(weight);
  sabrewing_plan_destroy(plan);
  sabrewing_context_destroy(context);
  return result;
}
