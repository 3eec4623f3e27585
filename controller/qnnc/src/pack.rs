//! Weights, biases and multipliers in the order in which kernels read them.

use crate::error::{Rule, no};
use crate::tensor::{Const, Data};
use crate::value::{Bias, Quant, Scaled};
use fleetway_qnn::format::{PANEL, QUAD};

/// Weights of one operator: `[channels][depth]`, as whole numbers.
pub(crate) struct Rows {
    pub(crate) channels: usize,
    pub(crate) depth: usize,
    /// As they are packed: within `i8`.
    pub(crate) weights: Vec<i8>,
    /// Zero point of each channel, moved with its weights.
    pub(crate) zeros: Vec<i32>,
}

/// What a channel's accumulators become.
pub(crate) struct Channels {
    pub(crate) bias: Vec<i32>,
    pub(crate) mult: Vec<f32>,
    /// Empty if all are 0.
    pub(crate) zeros: Vec<i32>,
}

/// Weights as `i8`: `uint8` ones move by 128 with their zero points.
pub(crate) fn bytes(of: &Const) -> Rule<(Vec<i8>, i32)> {
    match &of.data {
        Data::S8(data) => Ok((data.clone(), 0)),
        Data::U8(data) => Ok((data.iter().map(|&w| (w ^ 0x80) as i8).collect(), 128)),
        _ => no("its weights are neither int8 nor uint8"),
    }
}

/// One value for each of `count` channels.
pub(crate) fn spread<T: Copy>(values: &[T], count: usize, what: &str) -> Rule<Vec<T>> {
    match values.len() {
        1 => Ok(vec![values[0]; count]),
        len if len == count => Ok(values.to_vec()),
        len => no(format!("it has {len} {what} for {count} channels")),
    }
}

/// Folds zero points and bias into one number per channel, and the three scales into one.
///
/// `acc = sum(x * w) + bias - wz * sum(x)` is `sum((x - zx) * (w - wz))` plus the model's own bias.
pub(crate) fn channels(
    rows: &Rows,
    of: &Scaled,
    bias: Option<&Bias>,
    x: Quant,
    y_scale: f32,
) -> Rule<Channels> {
    let scales = spread(&of.scales, rows.channels, "scales of weights")?;
    let (zx, depth) = (i64::from(x.zero), rows.depth as i64);
    let own = match bias {
        None => vec![0; rows.channels],
        Some(Bias::Steps(steps)) => spread(steps, rows.channels, "biases")?,
        Some(Bias::Reals(reals)) => {
            let reals = spread(reals, rows.channels, "biases")?;
            let step = |scale: f32| f64::from(x.scale) * f64::from(scale);
            let steps = reals.iter().zip(&scales).map(|(real, &scale)| real / step(scale));
            // Saturates; what does not fit is refused below.
            steps.map(|steps| steps.round_ties_even() as i64).collect()
        }
    };
    let mut found = Channels { bias: Vec::new(), mult: Vec::new(), zeros: Vec::new() };
    for channel in 0..rows.channels {
        let weights = &rows.weights[channel * rows.depth..][..rows.depth];
        let zero = i64::from(rows.zeros[channel]);
        let step = x.scale * scales[channel];
        let own = i32::try_from(own[channel]);
        let own =
            i64::from(own.map_err(|_| format!("the bias of channel {channel} is too large"))?);
        let mult = step / y_scale;
        if !(mult.is_finite() && mult > 0.0) {
            return no(format!("the scales of channel {channel} do not combine to a number"));
        }
        let sum: i64 = weights.iter().map(|&w| i64::from(w)).sum();
        let most: i64 = weights.iter().map(|&w| (i64::from(w) - zero).abs() * 255).sum();
        let own = within_32_bits(own, most, mult);
        let own = own.ok_or_else(|| format!("the sums of channel {channel} do not fit 32 bits"))?;
        // The exact sum fits; what a kernel holds on the way may wrap, and wraps back.
        let bias = own - zx * sum + depth * zx * zero;
        found.bias.push(bias as i32);
        found.mult.push(mult);
        found.zeros.push(zero as i32);
    }
    if found.zeros.iter().all(|&zero| zero == 0) {
        found.zeros.clear();
    }
    Ok(found)
}

/// A bias with which no sum leaves 32 bits, and every result is the same.
///
/// Channels that training left dead have biases at the very end of their range. Where the largest sum of
/// products cannot bring the result back from 0 or 255, a smaller bias does the same.
fn within_32_bits(bias: i64, most: i64, mult: f32) -> Option<i64> {
    let room = i64::from(i32::MAX) - most;
    if bias.abs() <= room {
        return Some(bias);
    }
    let least = (room - most) as f64 * f64::from(mult);
    // 255 steps to the other end, and as many for the zero point.
    (least > 512.0).then_some(bias.clamp(-room, room))
}

/// Rows as panels of 16 channels, quads of inputs inside: [`fleetway_qnn::format::Conv`].
/// Each of the `runs` runs of a row begins a new quad.
pub(crate) fn panels(rows: &Rows, runs: usize) -> Vec<u8> {
    let run = rows.depth / runs;
    let whole = run.next_multiple_of(QUAD);
    let depth = runs * whole;
    let panels = rows.channels.div_ceil(PANEL);
    let mut packed = vec![0; panels * PANEL * depth];
    for channel in 0..rows.channels {
        let (panel, lane) = (channel / PANEL, channel % PANEL);
        for (input, &weight) in
            rows.weights[channel * rows.depth..][..rows.depth].iter().enumerate()
        {
            let at = input / run * whole + input % run;
            let (quad, place) = (at / QUAD, at % QUAD);
            packed[panel * PANEL * depth + quad * PANEL * QUAD + lane * QUAD + place] =
                weight as u8;
        }
    }
    packed
}

/// Little-endian words, `fill` behind them up to a multiple of `whole`.
pub(crate) fn words<T: Copy, const N: usize>(
    values: &[T],
    whole: usize,
    fill: T,
    bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    let padding = std::iter::repeat_n(fill, values.len().next_multiple_of(whole) - values.len());
    values.iter().copied().chain(padding).flat_map(bytes).collect()
}
