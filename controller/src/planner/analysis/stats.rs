//! Quantiles and intervals, each with the paper that it is from. All of it over `libm`, so that a
//! journal replays to the same bits on every machine.

/// Halvings of a bracket: below the spacing of doubles for every bracket in here.
const HALVINGS: u32 = 80;

/// `x` in `low..high` where the falling function `tail` passes `p`.
fn invert(p: f64, low: f64, high: f64, tail: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if tail(middle) > p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The standard normal quantile that is exceeded with probability `alpha` (0 < alpha <= 0.5).
pub(super) fn normal(alpha: f64) -> f64 {
    invert(alpha, 0.0, 38.0, |z| libm::erfc(z / core::f64::consts::SQRT_2) / 2.0)
}

/// Student's t with `freedom` degrees of freedom that is exceeded with probability `alpha`.
pub(super) fn student(alpha: f64, freedom: f64) -> f64 {
    let tail = |t: f64| incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5) / 2.0;
    invert(alpha, 0.0, 1e9, tail)
}

/// The regularised incomplete beta function by Lentz's continued fraction (Abramowitz and Stegun,
/// 1964, 26.5.8).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges quickly on this side only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = libm::exp(
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
            + a * libm::log(x)
            + b * libm::log1p(-x),
    );
    front * fraction(x, a, b) / a
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    /// Terms after which it has long converged.
    const TERMS_MAX: u32 = 300;
    let away = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut product = d;
    for n in 1..=TERMS_MAX {
        let n = f64::from(n);
        let even = n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n));
        let odd = -(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0));
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            product *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    product
}

/// A number with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// `f`, which rises, of all three.
    pub(super) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { value: f(self.value), low: f(self.low), high: f(self.high) }
    }
}

/// The score interval of a share `p` of `n` trials (Wilson, 1927, J. Am. Stat. Assoc. 22:209),
/// where `z` is the normal quantile. Well-behaved at 0 and 1, which `p ± z s` is not (Brown, Cai,
/// DasGupta, 2001, Stat. Sci. 16:101).
pub(super) fn wilson(p: f64, n: f64, z: f64) -> Interval {
    let zz = z * z / n;
    let centre = (p + zz / 2.0) / (1.0 + zz);
    let half = z / (1.0 + zz) * libm::sqrt(p * (1.0 - p) / n + zz / (4.0 * n));
    Interval { value: p, low: (centre - half).clamp(0.0, p), high: (centre + half).clamp(p, 1.0) }
}

/// The interval of `a - b` from those of both: square-and-add (Newcombe, 1998, Stat. Med. 17:873,
/// method 10, for shares; Zou and Donner, 2008, Stat. Med. 27:1693, for anything).
pub(super) fn difference(a: Interval, b: Interval) -> Interval {
    let value = a.value - b.value;
    Interval {
        value,
        low: value - libm::hypot(a.value - a.low, b.high - b.value),
        high: value + libm::hypot(a.high - a.value, b.value - b.low),
    }
}
