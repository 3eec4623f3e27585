//! Resize: nearest by picking indices, linear by two places of each axis.

use super::Lower;
use super::nodes::sizes;
use super::shapes::image;
use super::store::Within;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::pack;
use crate::value::{Move, Quant, Real, Taps, Tensor, Value};
use fleetway_qnn::format::{Op, Resize};
use std::rc::Rc;

/// Largest factor of an axis.
const TIMES_MAX: f32 = 1024.0;

/// How an axis is resized.
struct Axis {
    from: usize,
    to: usize,
    scale: f32,
}

impl Axis {
    /// Where an index of the output lies in the input, as onnxruntime computes it in single precision.
    fn place(&self, index: usize, way: &str) -> Rule<f32> {
        let (at, from, to) = (index as f32, self.from as f32, self.to as f32);
        Ok(match way {
            _ if self.from == self.to && self.scale == 1.0 => at,
            "half_pixel" => (at + 0.5) / self.scale - 0.5,
            "pytorch_half_pixel" if self.to == 1 => 0.0,
            "pytorch_half_pixel" => (at + 0.5) / self.scale - 0.5,
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => at * (from - 1.0) / (to - 1.0),
            "asymmetric" => at / self.scale,
            _ => return no(format!("coordinates by {way} are not supported")),
        })
    }

    fn nearest(&self, index: usize, way: &str, round: &str) -> Rule<usize> {
        let place = self.place(index, way)?;
        let near = match round {
            "floor" => place.floor(),
            "ceil" => place.ceil(),
            "round_prefer_floor" if place - place.floor() == 0.5 => place.floor(),
            "round_prefer_floor" | "round_prefer_ceil" => (place + 0.5).floor(),
            _ => return no(format!("rounding by {round} is not supported")),
        };
        Ok((near.max(0.0) as usize).min(self.from - 1))
    }

    fn linear(&self, index: usize, way: &str) -> Rule<Taps> {
        let last = self.from as f32 - 1.0;
        let place = self.place(index, way)?.clamp(0.0, last);
        let first = (place as u32).min(last as u32);
        let second = (first + 1).min(last as u32);
        let share = match first == second {
            true => [0.5, 0.5],
            false => [(place - second as f32).abs(), (place - first as f32).abs()],
        };
        Ok(Taps { at: [first, second], share })
    }
}

impl Lower {
    pub(super) fn resize_node(&mut self, node: &Node) -> Rule<Value> {
        let value = self.value(node, 0)?;
        let shape = self.value_shape(&value)?;
        let old = node.op == "Upsample";
        let text = |name: &str, default: &str| node.text(name).unwrap_or(default.to_owned());
        let mode = text("mode", "nearest");
        let place = text("coordinate_transformation_mode", "half_pixel");
        let place = if old { "asymmetric".to_owned() } else { place };
        let round = text("nearest_mode", "round_prefer_floor");
        let round = if old { "floor".to_owned() } else { round };
        let plain = node.int("antialias", 0) == 0
            && matches!(text("keep_aspect_ratio_policy", "stretch").as_str(), "stretch");
        if !plain {
            return no("antialias and keep_aspect_ratio_policy are not supported");
        }
        let axes = self.resized(node, &shape)?;
        match mode.as_str() {
            "nearest" => self.nearest(value, &axes, &place, &round),
            "linear" => Ok(Value::Real(Rc::new(self.linear(node, &shape, &axes, &place)?))),
            mode => no(format!("mode {mode} is not supported")),
        }
    }

    /// Sizes and scales of every axis.
    fn resized(&self, node: &Node, shape: &[usize]) -> Rule<Vec<Axis>> {
        let scales = self.constant(node, if node.op == "Upsample" { 1 } else { 2 })?;
        let scales = scales.filter(|scales| scales.len() > 0);
        let wanted = self.constant(node, 3)?;
        let axes = match self.axes(node, 9)? {
            Some(axes) => {
                axes.iter().map(|&at| super::shapes::axis(at, shape.len())).collect::<Rule<_>>()?
            }
            None => (0..shape.len()).collect::<Vec<_>>(),
        };
        let mut found: Vec<Axis> =
            shape.iter().map(|&dim| Axis { from: dim, to: dim, scale: 1.0 }).collect();
        let given: Vec<(usize, f32)> = match (scales, wanted) {
            (Some(scales), _) => {
                let scales = scales.reals()?.iter().zip(&axes);
                let good = |&scale: &f32| scale > 0.0 && scale <= TIMES_MAX;
                let to = |scale: f32, from: usize| (from as f32 * scale).floor() as usize;
                let each = scales
                    .map(|(&scale, &at)| good(&scale).then_some((to(scale, shape[at]), scale)));
                each.collect::<Option<_>>().ok_or("its scales are out of range")?
            }
            (None, Some(wanted)) => {
                let wanted = sizes(&wanted.ints()?)?;
                let scale = |(to, &at): (usize, &usize)| (to, to as f32 / shape[at] as f32);
                wanted.into_iter().zip(&axes).map(scale).collect()
            }
            _ => return no("neither its scales nor its sizes are constants"),
        };
        if given.len() != axes.len() {
            return no("its scales or sizes are not as many as its axes");
        }
        for (at, (to, scale)) in axes.into_iter().zip(given) {
            if to == 0 || scale > TIMES_MAX {
                return no(format!("it makes {to} of {}", shape[at]));
            }
            found[at] = Axis { from: shape[at], to, scale };
        }
        Ok(found)
    }

    fn nearest(&mut self, value: Value, axes: &[Axis], place: &str, round: &str) -> Rule<Value> {
        let mut picks = Vec::new();
        for axis in axes {
            let near = (0..axis.to).map(|index| axis.nearest(index, place, round));
            picks.push(near.collect::<Rule<Vec<_>>>()?);
        }
        // "Each index, some times" is one step.
        let times: Vec<usize> = axes.iter().map(|axis| axis.to / axis.from).collect();
        let repeats = picks.iter().zip(&times).zip(axes).all(|((picks, &times), axis)| {
            times * axis.from == axis.to
                && picks.iter().enumerate().all(|(at, &pick)| pick == at / times)
        });
        if repeats {
            return self.move_value(value, Move::Repeat(times));
        }
        let mut value = value;
        for (at, picks) in picks.into_iter().enumerate() {
            if picks.iter().copied().ne(0..axes[at].from) {
                value = self.move_value(value, Move::Pick(at, picks))?;
            }
        }
        Ok(value)
    }

    fn linear(&mut self, node: &Node, shape: &[usize], axes: &[Axis], place: &str) -> Rule<Real> {
        let of = self.real(node, 0)?;
        image(shape)?;
        if axes[..2].iter().any(|axis| axis.from != axis.to) {
            return no("linear interpolation over batch or channels is not supported");
        }
        let taps = |axis: &Axis| {
            (0..axis.to).map(|index| axis.linear(index, place)).collect::<Rule<Vec<_>>>()
        };
        let one = Axis { from: 1, to: 1, scale: 1.0 };
        let rows = taps(if axes.len() == 4 { &axes[2] } else { &one })?;
        let columns = taps(&axes[axes.len() - 1])?;
        Ok(Real::Resize { of, rows, columns })
    }

    pub(super) fn interpolated(
        &mut self,
        of: &Rc<Real>,
        [rows, columns]: [&[Taps]; 2],
        quant: Quant,
        within: Within,
    ) -> Rule<Tensor> {
        let real = Real::Resize { of: of.clone(), rows: rows.to_vec(), columns: columns.to_vec() };
        let shape = self.shape(&real)?;
        let (x, qx) = self.stored(of)?;
        let x = self.channels_last(&x)?;
        let [batch, ic, ih, iw] = image(&x.shape)?.map(|size| size as u32);
        let y = self.program.tensor(&shape, true);
        let op = Op::Resize(Resize {
            batch,
            ih,
            iw,
            ic,
            oh: rows.len() as u32,
            ow: columns.len() as u32,
            zx: qx.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            mult: (qx.scale / quant.scale).to_bits(),
            ..Resize::default()
        });
        let mut blob = |taps: &[Taps]| {
            let words = taps.iter().flat_map(|taps| {
                [taps.at[0], taps.at[1], taps.share[0].to_bits(), taps.share[1].to_bits()]
            });
            let words: Vec<u32> = words.collect();
            self.program.blob(pack::words(&words, 1, 0, u32::to_le_bytes))
        };
        let blobs = vec![blob(rows), blob(columns)];
        self.emit(op, &[&x], &y, None, blobs);
        Ok(y)
    }
}
