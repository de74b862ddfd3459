/* build_word.h - which build a program is of.
 * Promise   two programs say the same word when they were built of the same sources, flags and
 *           library of the engine, and only then: what they send each other needs no versions.
 * Not here  the word itself, which the build writes (cmake/build_word.cmake). */
#pragma once

const char *build_word(void);
