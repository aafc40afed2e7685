#pragma once

// Written by scripts/make_jinja_unicode_tables.py (Unicode 14.0.0).

namespace sabrewing::text::jinja {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

/// A mapping to more than one code point; unused places are zero.
struct SpecialCasing {
  char32_t from;
  char32_t to[3];
};

/// Digits that are not of category Nd.
inline constexpr CodePointRange kDigits[] = {
    {0xB2, 0xB3},     {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},   {0x2070, 0x2070},
    {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247C},   {0x2488, 0x2490},
    {0x24EA, 0x24EA}, {0x24F5, 0x24FD},   {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},
    {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};

/// Numeric characters of no number category.
inline constexpr CodePointRange kNumerics[] = {
    {0x3405, 0x3405},   {0x3483, 0x3483},   {0x382A, 0x382A},   {0x3B4D, 0x3B4D},   {0x4E00, 0x4E00},
    {0x4E03, 0x4E03},   {0x4E07, 0x4E07},   {0x4E09, 0x4E09},   {0x4E5D, 0x4E5D},   {0x4E8C, 0x4E8C},
    {0x4E94, 0x4E94},   {0x4E96, 0x4E96},   {0x4EBF, 0x4EC0},   {0x4EDF, 0x4EDF},   {0x4EE8, 0x4EE8},
    {0x4F0D, 0x4F0D},   {0x4F70, 0x4F70},   {0x5104, 0x5104},   {0x5146, 0x5146},   {0x5169, 0x5169},
    {0x516B, 0x516B},   {0x516D, 0x516D},   {0x5341, 0x5341},   {0x5343, 0x5345},   {0x534C, 0x534C},
    {0x53C1, 0x53C4},   {0x56DB, 0x56DB},   {0x58F1, 0x58F1},   {0x58F9, 0x58F9},   {0x5E7A, 0x5E7A},
    {0x5EFE, 0x5EFF},   {0x5F0C, 0x5F0E},   {0x5F10, 0x5F10},   {0x62FE, 0x62FE},   {0x634C, 0x634C},
    {0x67D2, 0x67D2},   {0x6F06, 0x6F06},   {0x7396, 0x7396},   {0x767E, 0x767E},   {0x8086, 0x8086},
    {0x842C, 0x842C},   {0x8CAE, 0x8CAE},   {0x8CB3, 0x8CB3},   {0x8D30, 0x8D30},   {0x9621, 0x9621},
    {0x9646, 0x9646},   {0x964C, 0x964C},   {0x9678, 0x9678},   {0x96F6, 0x96F6},   {0xF96B, 0xF96B},
    {0xF973, 0xF973},   {0xF978, 0xF978},   {0xF9B2, 0xF9B2},   {0xF9D1, 0xF9D1},   {0xF9D3, 0xF9D3},
    {0xF9FD, 0xF9FD},   {0x20001, 0x20001}, {0x20064, 0x20064}, {0x200E2, 0x200E2}, {0x20121, 0x20121},
    {0x2092A, 0x2092A}, {0x20983, 0x20983}, {0x2098C, 0x2098C}, {0x2099C, 0x2099C}, {0x20AEA, 0x20AEA},
    {0x20AFD, 0x20AFD}, {0x20B19, 0x20B19}, {0x22390, 0x22390}, {0x22998, 0x22998}, {0x23B1B, 0x23B1B},
    {0x2626D, 0x2626D}, {0x2F890, 0x2F890}};

/// Lower case though not of category Ll.
inline constexpr CodePointRange kOtherLowercase[] = {
    {0xAA, 0xAA},       {0xBA, 0xBA},       {0x2B0, 0x2B8},     {0x2C0, 0x2C1},    {0x2E0, 0x2E4},
    {0x345, 0x345},     {0x37A, 0x37A},     {0x1D2C, 0x1D6A},   {0x1D78, 0x1D78},  {0x1D9B, 0x1DBF},
    {0x2071, 0x2071},   {0x207F, 0x207F},   {0x2090, 0x209C},   {0x2170, 0x217F},  {0x24D0, 0x24E9},
    {0x2C7C, 0x2C7D},   {0xA69C, 0xA69D},   {0xA770, 0xA770},   {0xA7F8, 0xA7F9},  {0xAB5C, 0xAB5F},
    {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}};

/// Upper case though not of category Lu.
inline constexpr CodePointRange kOtherUppercase[] = {
    {0x2160, 0x216F}, {0x24B6, 0x24CF}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

/// Upper case of more than one code point.
inline constexpr SpecialCasing kSpecialUpper[] = {{0xDF, {0x53, 0x53}},
                                                  {0x149, {0x2BC, 0x4E}},
                                                  {0x1F0, {0x4A, 0x30C}},
                                                  {0x390, {0x399, 0x308, 0x301}},
                                                  {0x3B0, {0x3A5, 0x308, 0x301}},
                                                  {0x587, {0x535, 0x552}},
                                                  {0x1E96, {0x48, 0x331}},
                                                  {0x1E97, {0x54, 0x308}},
                                                  {0x1E98, {0x57, 0x30A}},
                                                  {0x1E99, {0x59, 0x30A}},
                                                  {0x1E9A, {0x41, 0x2BE}},
                                                  {0x1F50, {0x3A5, 0x313}},
                                                  {0x1F52, {0x3A5, 0x313, 0x300}},
                                                  {0x1F54, {0x3A5, 0x313, 0x301}},
                                                  {0x1F56, {0x3A5, 0x313, 0x342}},
                                                  {0x1F80, {0x1F08, 0x399}},
                                                  {0x1F81, {0x1F09, 0x399}},
                                                  {0x1F82, {0x1F0A, 0x399}},
                                                  {0x1F83, {0x1F0B, 0x399}},
                                                  {0x1F84, {0x1F0C, 0x399}},
                                                  {0x1F85, {0x1F0D, 0x399}},
                                                  {0x1F86, {0x1F0E, 0x399}},
                                                  {0x1F87, {0x1F0F, 0x399}},
                                                  {0x1F88, {0x1F08, 0x399}},
                                                  {0x1F89, {0x1F09, 0x399}},
                                                  {0x1F8A, {0x1F0A, 0x399}},
                                                  {0x1F8B, {0x1F0B, 0x399}},
                                                  {0x1F8C, {0x1F0C, 0x399}},
                                                  {0x1F8D, {0x1F0D, 0x399}},
                                                  {0x1F8E, {0x1F0E, 0x399}},
                                                  {0x1F8F, {0x1F0F, 0x399}},
                                                  {0x1F90, {0x1F28, 0x399}},
                                                  {0x1F91, {0x1F29, 0x399}},
                                                  {0x1F92, {0x1F2A, 0x399}},
                                                  {0x1F93, {0x1F2B, 0x399}},
                                                  {0x1F94, {0x1F2C, 0x399}},
                                                  {0x1F95, {0x1F2D, 0x399}},
                                                  {0x1F96, {0x1F2E, 0x399}},
                                                  {0x1F97, {0x1F2F, 0x399}},
                                                  {0x1F98, {0x1F28, 0x399}},
                                                  {0x1F99, {0x1F29, 0x399}},
                                                  {0x1F9A, {0x1F2A, 0x399}},
                                                  {0x1F9B, {0x1F2B, 0x399}},
                                                  {0x1F9C, {0x1F2C, 0x399}},
                                                  {0x1F9D, {0x1F2D, 0x399}},
                                                  {0x1F9E, {0x1F2E, 0x399}},
                                                  {0x1F9F, {0x1F2F, 0x399}},
                                                  {0x1FA0, {0x1F68, 0x399}},
                                                  {0x1FA1, {0x1F69, 0x399}},
                                                  {0x1FA2, {0x1F6A, 0x399}},
                                                  {0x1FA3, {0x1F6B, 0x399}},
                                                  {0x1FA4, {0x1F6C, 0x399}},
                                                  {0x1FA5, {0x1F6D, 0x399}},
                                                  {0x1FA6, {0x1F6E, 0x399}},
                                                  {0x1FA7, {0x1F6F, 0x399}},
                                                  {0x1FA8, {0x1F68, 0x399}},
                                                  {0x1FA9, {0x1F69, 0x399}},
                                                  {0x1FAA, {0x1F6A, 0x399}},
                                                  {0x1FAB, {0x1F6B, 0x399}},
                                                  {0x1FAC, {0x1F6C, 0x399}},
                                                  {0x1FAD, {0x1F6D, 0x399}},
                                                  {0x1FAE, {0x1F6E, 0x399}},
                                                  {0x1FAF, {0x1F6F, 0x399}},
                                                  {0x1FB2, {0x1FBA, 0x399}},
                                                  {0x1FB3, {0x391, 0x399}},
                                                  {0x1FB4, {0x386, 0x399}},
                                                  {0x1FB6, {0x391, 0x342}},
                                                  {0x1FB7, {0x391, 0x342, 0x399}},
                                                  {0x1FBC, {0x391, 0x399}},
                                                  {0x1FC2, {0x1FCA, 0x399}},
                                                  {0x1FC3, {0x397, 0x399}},
                                                  {0x1FC4, {0x389, 0x399}},
                                                  {0x1FC6, {0x397, 0x342}},
                                                  {0x1FC7, {0x397, 0x342, 0x399}},
                                                  {0x1FCC, {0x397, 0x399}},
                                                  {0x1FD2, {0x399, 0x308, 0x300}},
                                                  {0x1FD3, {0x399, 0x308, 0x301}},
                                                  {0x1FD6, {0x399, 0x342}},
                                                  {0x1FD7, {0x399, 0x308, 0x342}},
                                                  {0x1FE2, {0x3A5, 0x308, 0x300}},
                                                  {0x1FE3, {0x3A5, 0x308, 0x301}},
                                                  {0x1FE4, {0x3A1, 0x313}},
                                                  {0x1FE6, {0x3A5, 0x342}},
                                                  {0x1FE7, {0x3A5, 0x308, 0x342}},
                                                  {0x1FF2, {0x1FFA, 0x399}},
                                                  {0x1FF3, {0x3A9, 0x399}},
                                                  {0x1FF4, {0x38F, 0x399}},
                                                  {0x1FF6, {0x3A9, 0x342}},
                                                  {0x1FF7, {0x3A9, 0x342, 0x399}},
                                                  {0x1FFC, {0x3A9, 0x399}},
                                                  {0xFB00, {0x46, 0x46}},
                                                  {0xFB01, {0x46, 0x49}},
                                                  {0xFB02, {0x46, 0x4C}},
                                                  {0xFB03, {0x46, 0x46, 0x49}},
                                                  {0xFB04, {0x46, 0x46, 0x4C}},
                                                  {0xFB05, {0x53, 0x54}},
                                                  {0xFB06, {0x53, 0x54}},
                                                  {0xFB13, {0x544, 0x546}},
                                                  {0xFB14, {0x544, 0x535}},
                                                  {0xFB15, {0x544, 0x53B}},
                                                  {0xFB16, {0x54E, 0x546}},
                                                  {0xFB17, {0x544, 0x53D}}};

/// Title case of more than one code point.
inline constexpr SpecialCasing kSpecialTitle[] = {{0xDF, {0x53, 0x73}},
                                                  {0x149, {0x2BC, 0x4E}},
                                                  {0x1F0, {0x4A, 0x30C}},
                                                  {0x390, {0x399, 0x308, 0x301}},
                                                  {0x3B0, {0x3A5, 0x308, 0x301}},
                                                  {0x587, {0x535, 0x582}},
                                                  {0x1E96, {0x48, 0x331}},
                                                  {0x1E97, {0x54, 0x308}},
                                                  {0x1E98, {0x57, 0x30A}},
                                                  {0x1E99, {0x59, 0x30A}},
                                                  {0x1E9A, {0x41, 0x2BE}},
                                                  {0x1F50, {0x3A5, 0x313}},
                                                  {0x1F52, {0x3A5, 0x313, 0x300}},
                                                  {0x1F54, {0x3A5, 0x313, 0x301}},
                                                  {0x1F56, {0x3A5, 0x313, 0x342}},
                                                  {0x1FB2, {0x1FBA, 0x345}},
                                                  {0x1FB4, {0x386, 0x345}},
                                                  {0x1FB6, {0x391, 0x342}},
                                                  {0x1FB7, {0x391, 0x342, 0x345}},
                                                  {0x1FC2, {0x1FCA, 0x345}},
                                                  {0x1FC4, {0x389, 0x345}},
                                                  {0x1FC6, {0x397, 0x342}},
                                                  {0x1FC7, {0x397, 0x342, 0x345}},
                                                  {0x1FD2, {0x399, 0x308, 0x300}},
                                                  {0x1FD3, {0x399, 0x308, 0x301}},
                                                  {0x1FD6, {0x399, 0x342}},
                                                  {0x1FD7, {0x399, 0x308, 0x342}},
                                                  {0x1FE2, {0x3A5, 0x308, 0x300}},
                                                  {0x1FE3, {0x3A5, 0x308, 0x301}},
                                                  {0x1FE4, {0x3A1, 0x313}},
                                                  {0x1FE6, {0x3A5, 0x342}},
                                                  {0x1FE7, {0x3A5, 0x308, 0x342}},
                                                  {0x1FF2, {0x1FFA, 0x345}},
                                                  {0x1FF4, {0x38F, 0x345}},
                                                  {0x1FF6, {0x3A9, 0x342}},
                                                  {0x1FF7, {0x3A9, 0x342, 0x345}},
                                                  {0xFB00, {0x46, 0x66}},
                                                  {0xFB01, {0x46, 0x69}},
                                                  {0xFB02, {0x46, 0x6C}},
                                                  {0xFB03, {0x46, 0x66, 0x69}},
                                                  {0xFB04, {0x46, 0x66, 0x6C}},
                                                  {0xFB05, {0x53, 0x74}},
                                                  {0xFB06, {0x53, 0x74}},
                                                  {0xFB13, {0x544, 0x576}},
                                                  {0xFB14, {0x544, 0x565}},
                                                  {0xFB15, {0x544, 0x56B}},
                                                  {0xFB16, {0x54E, 0x576}},
                                                  {0xFB17, {0x544, 0x56D}}};

/// Lower case of more than one code point.
inline constexpr SpecialCasing kSpecialLower[] = {{0x130, {0x69, 0x307}}};

}  // namespace sabrewing::text::jinja
