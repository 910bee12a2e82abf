//! Functions of one number, written so that loops over them vectorise, and the macro that compiles such loops once for
//! every instruction set and picks one at run time.

/// Defines `fn name(arguments)` from a body that is generic over `const FMA: bool`: compiled with AVX-512, with AVX2 and
/// FMA, and for any machine; the choice is made at run time. The first two give the same bits. The body is an `#[inline(always)]` function of the same
/// arguments.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn with_avx512($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                if $crate::cpu::math::has_avx512() {
                    // SAFETY: the processor has these instruction sets, as just tested.
                    return unsafe { with_avx512($($arg),*) };
                }
                if $crate::cpu::math::has_avx2() {
                    // SAFETY: as above.
                    return unsafe { with_avx2($($arg),*) };
                }
            }
            #[cfg(target_arch = "aarch64")]
            return $body::<true>($($arg),*);
            #[cfg(not(target_arch = "aarch64"))]
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use dispatch;

/// Whether the processor has AVX2 and FMA. Asked once; then one load.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether the processor has the parts of AVX-512 that vectorised loops use. Asked once; then one load.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
}

/// `a * b + c`; in one rounding where the machine can (`FMA`).
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The larger of two numbers, the second when the first is NaN (one instruction; `f32::max` is four).
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// e^x within 2 ulp; 0 below -87.7 (so exactly 0 for minus infinity), NaN stays NaN, saturates above 88.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, whose bits then stand in the low end of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -88.0 { -88.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = multiply_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FMA>(n, -LN2_HIGH, x);
    let r = multiply_add::<FMA>(n, -LN2_LOW, r);
    // Taylor's series: |r| <= ln(2) / 2, so the first term left out is below 2e-8 of the result.
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = multiply_add::<FMA>(p, r, coefficient);
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    p * power
}

/// The error function within 2e-7 (absolute).
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    // Abramowitz and Stegun 7.1.28's idea with exp: erfc(a) = t * exp(-a^2 + P(t)), t = 1 / (1 + a / 2): the Chebyshev
    // fit of Numerical Recipes ("erfcc", 1.2e-7 relative); below 0.5 the Maclaurin series is exact to rounding.
    let a = x.abs();
    let t = 1.0 / multiply_add::<FMA>(0.5, a, 1.0);
    let mut p = 0.170_872_77;
    for coefficient in
        [-0.822_152_23, 1.488_515_9, -1.135_204, 0.278_868_07, -0.186_288_06, 0.096_784_18, 0.374_091_96, 1.000_023_7]
    {
        p = multiply_add::<FMA>(p, t, coefficient);
    }
    let tail = t * exp::<FMA>(multiply_add::<FMA>(-a, a, multiply_add::<FMA>(p, t, -1.265_512_2)));
    let square = x * x;
    let mut series = 1.0 / 9360.0;
    for coefficient in [-1.0 / 1320.0, 1.0 / 216.0, -1.0 / 42.0, 0.1, -1.0 / 3.0, 1.0] {
        series = multiply_add::<FMA>(series, square, coefficient);
    }
    if a < 0.5 { std::f32::consts::FRAC_2_SQRT_PI * x * series } else { (1.0 - tail).copysign(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        for step in -87_000..88_000 {
            let x = step as f32 * 1e-3;
            let want = f64::from(x).exp();
            for got in [exp::<true>(x), exp::<false>(x)] {
                assert!((f64::from(got) - want).abs() <= 2.4e-7 * want, "exp({x}) = {got}, not {want}");
            }
        }
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn erf_has_known_values() {
        // From the tables in Abramowitz and Stegun, chapter 7.
        for (x, want) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_0),
            (0.3, 0.328_626_759_5),
            (0.5, 0.520_499_877_8),
            (0.8, 0.742_100_964_7),
            (1.0, 0.842_700_792_9),
            (1.5, 0.966_105_146_5),
            (2.0, 0.995_322_265_0),
            (4.0, 0.999_999_984_6),
        ] {
            for sign in [1.0f32, -1.0] {
                let got = f64::from(sign * erf::<true>(sign * x));
                assert!((got - want).abs() < 2e-7, "erf({x}) = {got}, not {want}");
            }
        }
        assert!(erf::<true>(f32::NAN).is_nan());
    }
}
