//! Rounding and requantization, the same bits everywhere.
//!
//! Only IEEE 754 single additions, multiplications, divisions and one fused multiply-add are used,
//! all of them exactly rounded: hardware, vector units and software floats agree.

/// `1.5 * 2^23`: adding it moves the last bit of a float to the ones, so that the addition itself
/// rounds half to even. Right for magnitudes below `2^22`.
const MAGIC: f32 = 12_582_912.0;

/// The nearest integer, half to even, of a value within ±2^22.
#[inline(always)]
pub fn round_even(value: f32) -> i32 {
    ((value + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

/// The value within bounds; a value that is not a number becomes `lo`, as `maxps` has it.
#[inline(always)]
pub fn clamp(value: f32, lo: f32, hi: f32) -> f32 {
    let value = if value > lo { value } else { lo };
    if value < hi { value } else { hi }
}

/// An accumulator as a stored byte: `acc * mult`, half to even, plus the zero point, within bounds.
///
/// `lo <= hi`, both within 0..=255 and `zy` too.
#[inline(always)]
pub fn requantize(acc: i32, mult: f32, zy: i32, lo: i32, hi: i32) -> u8 {
    let value = clamp(acc as f32 * mult, (lo - zy) as f32, (hi - zy) as f32);
    (round_even(value) + zy) as u8
}

/// A real number as a stored byte, as ONNX's QuantizeLinear says it: divided, half to even.
#[inline(always)]
pub fn quantize(value: f32, scale: f32, zero: i32) -> u8 {
    let value = clamp(value / scale, -zero as f32, (255 - zero) as f32);
    (round_even(value) + zero) as u8
}

/// A stored byte as the real number that it stands for.
#[inline(always)]
pub fn dequantize(byte: u8, scale: f32, zero: i32) -> f32 {
    (i32::from(byte) - zero) as f32 * scale
}

/// `x * y + z`, rounded once.
#[inline(always)]
pub fn fused(x: f32, y: f32, z: f32) -> f32 {
    libm::fmaf(x, y, z)
}

/// Integer part of [`crate::format::Softmax`]: one entry of its table for a distance from the maximum.
pub const SOFTMAX_ONE: f32 = 8_388_608.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_side_and_everything_else_to_the_nearest() {
        for (value, expected) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (-2.5, -2),
            (0.499_999_97, 0),
            (0.500_000_06, 1),
            (-127.5, -128),
            (254.5, 254),
            (4_194_303.5, 4_194_304),
        ] {
            assert_eq!(round_even(value), expected, "{value}");
        }
    }

    #[test]
    fn what_is_not_a_number_or_far_out_stays_within_bounds() {
        assert_eq!(requantize(i32::MAX, f32::INFINITY, 3, 0, 255), 255);
        assert_eq!(requantize(i32::MIN, 1e30, 3, 7, 200), 7);
        assert_eq!(requantize(0, f32::INFINITY, 3, 7, 200), 7, "0 * inf is no number");
        assert_eq!(quantize(f32::NAN, 1.0, 128), 0);
    }

    #[test]
    fn requantize_is_exact_rounding_of_the_single_product() {
        // The oracle: the float product as f64, rounded half to even by hand.
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..if cfg!(miri) { 1_000 } else { 100_000 } {
            let (acc, mult) = (rng.i32(-1_000_000..1_000_000), rng.f32() * 1e-3);
            let zy = rng.i32(0..256);
            let real = f64::from(acc as f32 * mult);
            let floor = real.floor();
            let up = match real - floor {
                rest if rest > 0.5 => 1,
                rest if rest < 0.5 => 0,
                _ => (floor as i64).rem_euclid(2),
            };
            let expected = (floor as i64 + up + i64::from(zy)).clamp(0, 255);
            assert_eq!(i64::from(requantize(acc, mult, zy, 0, 255)), expected, "{acc} {mult} {zy}");
        }
    }
}
