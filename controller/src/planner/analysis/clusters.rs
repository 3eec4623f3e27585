//! Shares and means over devices whose requests are not independent of each other.
//!
//! A device is a cluster: its camera is dirty for all of its requests or for none. Of a share the
//! *design effect* says how many requests tell as much as one independent one; it is estimated from
//! how far devices are apart, within each side and over both together (Rao and Scott, 1992,
//! Biometrics 48:577), because a side without a single error says nothing of its own. The score
//! interval then takes the effective number of requests, made smaller for few devices by Student's
//! t (Korn and Graubard, 1998, Surv. Methodol. 24:193).

use super::stats::{Interval, normal, student};

/// What one device counted: `hits` of `of`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster {
    pub(super) hits: f64,
    pub(super) of: f64,
}

/// One side's clusters, added up. Only those that counted anything are in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) devices: f64,
    pub(super) of: f64,
    pub(super) share: f64,
    /// Sum of squares of `hits - share * of`.
    residual: f64,
    /// Sum of squares of `of`.
    squares: f64,
}

impl Side {
    /// `None` if nothing was counted.
    pub(super) fn of(clusters: &[Cluster]) -> Option<Self> {
        let some: Vec<_> = clusters.iter().filter(|c| c.of > 0.0).collect();
        let of: f64 = some.iter().map(|c| c.of).sum();
        if some.is_empty() {
            return None;
        }
        let share = some.iter().map(|c| c.hits).sum::<f64>() / of;
        let square = |v: f64| v * v;
        Some(Self {
            devices: some.len() as f64,
            of,
            share,
            residual: some.iter().map(|c| square(c.hits - share * c.of)).sum(),
            squares: some.iter().map(|c| square(c.of)).sum(),
        })
    }

    /// Variance of the sum of hits, were the requests independent.
    fn binomial(&self) -> f64 {
        self.share * (1.0 - self.share) * self.of
    }

    /// The number of devices of equal traffic that would tell as much (Kish, 1965, Survey Sampling,
    /// 11.7): what is left if every device is all hits or none.
    fn kish(&self) -> f64 {
        self.of * self.of / self.squares
    }
}

/// Degrees of freedom: devices on all sides, less one for each side.
fn freedom(sides: &[Side]) -> f64 {
    (sides.iter().map(|s| s.devices).sum::<f64>() - sides.len() as f64).max(1.0)
}

/// How many independent requests the requests of one of `sides` are worth, for bounds that each err
/// with probability `alpha`.
pub(super) fn effective(side: &Side, sides: &[Side], alpha: f64) -> f64 {
    let freedom = freedom(sides);
    let devices: f64 = sides.iter().map(|s| s.devices).sum();
    let pooled = sides.iter().map(|s| s.residual).sum::<f64>() * devices
        / freedom
        / sides.iter().map(Side::binomial).sum::<f64>();
    let own = side.residual * side.devices / (side.devices - 1.0) / side.binomial();
    // Where nobody has a hit nothing is known of it: then a device counts once, however much it said.
    let most = (side.of / side.kish()).max(1.0);
    let effect = match (pooled.is_finite(), own.is_finite()) {
        (true, true) => pooled.max(own),
        (true, false) => pooled,
        (false, _) => most,
    };
    let fewer = normal(alpha) / student(alpha, freedom);
    side.of / effect.clamp(1.0, most) * fewer * fewer
}

/// The mean of a number over requests (here `hits` is its sum), by the linearised variance of a
/// ratio over clusters (Cochran, 1977, Sampling Techniques, 6.3; Deng, Knoblich and Lu, 2018, KDD,
/// "Applying the delta method in metric analytics").
pub(super) fn mean(side: &Side, sides: &[Side], alpha: f64) -> Interval {
    let devices = side.devices.max(2.0);
    let error = libm::sqrt(side.residual * devices / (devices - 1.0)) / side.of;
    let half = student(alpha, freedom(sides)) * error;
    Interval { value: side.share, low: side.share - half, high: side.share + half }
}
