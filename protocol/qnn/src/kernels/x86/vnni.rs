//! x86-64 with VNNI: `vpdpbusd` multiplies four bytes by four weights in every lane, and adds them.
//!
//! Vectors have 8 lanes (AVX-VNNI) or 16 (AVX-512); the kernels are one text over `LANES`, made twice by
//! a macro because a generic function cannot carry a processor's features. A panel of weights is 16
//! channels by quads of 4 inputs, which is what the instruction takes.

macro_rules! kernels {
    ($features:literal) => {
        use crate::format::{PANEL, QUAD};
        use crate::kernels::channelwise::{Block, TAPS_MAX, blocks};
        use crate::kernels::{Channelwise, Gemm};
        use core::arch::x86_64::*;
        use core::ops::Range;

        /// Rows of a full tile, by two vectors of channels: 12 accumulators of 16 or 32 registers.
        const ROWS: usize = 6;
        /// Rows of what is left of a tile.
        const FEWER: usize = 3;
        /// Vectors of channels if there is but one row: their sums do not wait for each other.
        const ACROSS: usize = 4;
        /// Bytes of input that are met by every panel before the next rows come: half of the first cache.
        const BLOCK_BYTES: usize = 16 << 10;
        /// What stands for a place that a window has not.
        static NOTHING: [u8; 2 * LANES] = [0; 2 * LANES];

        /// [`crate::Kernels::gemm`] has checked every length; that is what the pointers below rest on.
        #[target_feature(enable = $features)]
        pub(in super::super) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
            let block = (BLOCK_BYTES / of.depth()).max(ROWS).next_multiple_of(ROWS);
            let bounds = Bounds::new(of.zy, of.lo, of.hi);
            for start in (0..of.rows).step_by(block) {
                let rows = start..of.rows.min(start + block);
                let mut first = 0;
                while first < of.columns {
                    let vectors = (of.columns - first).div_ceil(LANES).min(ACROSS);
                    let done = match (vectors, rows.len()) {
                        (ACROSS, 1) => {
                            tile::<1, ACROSS>(of, &bounds, start, first, output);
                            ACROSS
                        }
                        (1, _) => {
                            across::<1>(of, &bounds, rows.clone(), first, output);
                            1
                        }
                        _ => {
                            across::<2>(of, &bounds, rows.clone(), first, output);
                            2
                        }
                    };
                    first += done * LANES;
                }
            }
        }

        /// These rows times `W` vectors of channels.
        #[inline]
        #[target_feature(enable = $features)]
        fn across<const W: usize>(
            of: &Gemm<'_>,
            bounds: &Bounds,
            rows: Range<usize>,
            first: usize,
            output: &mut [u8],
        ) {
            let mut row = rows.start;
            while row + ROWS <= rows.end {
                tile::<ROWS, W>(of, bounds, row, first, output);
                row += ROWS;
            }
            if row + FEWER <= rows.end {
                tile::<FEWER, W>(of, bounds, row, first, output);
                row += FEWER;
            }
            for row in row..rows.end {
                tile::<1, W>(of, bounds, row, first, output);
            }
        }

        /// `R` rows from `row` on, times `W` vectors of channels from `first` on.
        #[inline]
        #[target_feature(enable = $features)]
        fn tile<const R: usize, const W: usize>(
            of: &Gemm<'_>,
            bounds: &Bounds,
            row: usize,
            first: usize,
            output: &mut [u8],
        ) {
            let mut acc = [words::<W>(of.bias, first); R];
            let depth = of.depth();
            let mut weights = [core::ptr::null(); W];
            for (vector, weights) in weights.iter_mut().enumerate() {
                let channel = first + vector * LANES;
                let panel = &of.weights[channel / PANEL * PANEL * depth..][..PANEL * depth];
                *weights = panel[channel % PANEL * QUAD..].as_ptr();
            }
            // SAFETY: `row + R <= rows`, each row has `runs` runs of `run` bytes inside the input, and a
            // panel has `runs * run * 16` weights: the entry checked all of it. `run` is a multiple of
            // 4, so quads do not reach beyond it, and a vector of weights not beyond its quad.
            unsafe {
                let mut at = 0;
                for run in 0..of.runs {
                    let input = of.input.as_ptr().add(row * of.input_stride + run * of.run_stride);
                    for quad in 0..of.run / QUAD {
                        let mut w = [zero(); W];
                        for (w, weights) in w.iter_mut().zip(&weights) {
                            *w = load(weights.add(at));
                        }
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let x = input.add(r * of.input_stride + quad * QUAD).cast::<i32>();
                            let x = splat(x.read_unaligned());
                            for (acc, &w) in acc.iter_mut().zip(&w) {
                                *acc = dot(*acc, x, w);
                            }
                        }
                        at += PANEL * QUAD;
                    }
                }
            }
            let mult = words::<W>(of.mult, first);
            let columns = (of.columns - first).min(W * LANES);
            for (r, acc) in acc.into_iter().enumerate() {
                let at = (row + r) * of.output_stride + first;
                let to = &mut output[at..at + columns];
                if columns == W * LANES {
                    bounds.store::<W>(acc, mult, to);
                } else {
                    let mut whole = [0; ACROSS * LANES];
                    bounds.store::<W>(acc, mult, &mut whole);
                    to.copy_from_slice(&whole[..columns]);
                }
            }
        }

        /// Whether [`depthwise()`] has vectors for so many channels.
        pub(in super::super) fn takes(of: &Channelwise<'_>) -> bool {
            of.channels >= LANES
        }

        /// `x86::takes` has said yes, too: no zero points, and a window that is not too large.
        #[target_feature(enable = $features)]
        pub(in super::super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
            let window = &of.window;
            let (taps, small) = (window.kh * window.kw, (window.kh, window.kw) == (3, 3));
            let wide = of.channels >= 2 * LANES;
            let step = if wide { 2 * LANES } else { LANES };
            blocks(of, step, output, |block, lines, output| match (small, wide, taps) {
                (true, true, _) => three_by_three::<2>(block, lines, output),
                (true, ..) => three_by_three::<1>(block, lines, output),
                (_, true, ..=8) => any::<2, 2>(block, lines, output),
                (_, true, ..=16) => any::<2, 4>(block, lines, output),
                (_, true, _) => any::<2, { TAPS_MAX / QUAD }>(block, lines, output),
                _ => any::<1, { TAPS_MAX / QUAD }>(block, lines, output),
            });
        }

        /// `W` vectors of channels under a 3x3 window. A column is met by three windows: it is read once.
        #[inline]
        #[target_feature(enable = $features)]
        fn three_by_three<const W: usize>(block: &Block<'_>, lines: Range<u32>, output: &mut [u8]) {
            let (of, window, from) = (block.of, &block.of.window, block.from);
            let bounds = Bounds::new(of.zy, of.lo, of.hi);
            let mut weights = [[zero(); W]; 3];
            for (kx, weights) in weights.iter_mut().enumerate() {
                let place = |ky: usize| {
                    of.weights[(ky * 3 + kx) * of.channels + from..][..W * LANES].as_ptr()
                };
                // SAFETY: the slices have the bytes that are read.
                *weights = unsafe { quads::<W, 3>([place(0), place(1), place(2)]) };
            }
            let (bias, mult) = (words::<W>(of.bias, from), words::<W>(of.mult, from));
            // By how many columns of the window it moves from pixel to pixel; 0 stands for all others.
            let step = window.dw as i32;
            let moves = if window.sw.is_multiple_of(window.dw) { window.sw / window.dw } else { 0 };
            for (oy, pixels) in block.lines(lines, output) {
                let columns = block.columns(oy, W * LANES);
                // SAFETY: the block's channels can be read at every place of a column.
                let column = |ix: i32| unsafe { quads::<W, 3>(columns.at(ix)) };
                let mut ix = -(window.pl as i32);
                let (mut a, mut b) = (column(ix), column(ix + step));
                for output in pixels {
                    let c = column(ix + 2 * step);
                    let mut acc = bias;
                    for (column, weights) in [a, b, c].iter().zip(&weights) {
                        for (acc, (&x, &w)) in acc.iter_mut().zip(column.iter().zip(weights)) {
                            *acc = dot(*acc, x, w);
                        }
                    }
                    bounds.store::<W>(acc, mult, &mut output[from..from + W * LANES]);
                    ix += window.sw as i32;
                    (a, b) = match moves {
                        1 => (b, c),
                        2 => (c, column(ix + step)),
                        _ => (column(ix), column(ix + step)),
                    };
                }
            }
        }

        /// `W` vectors of channels under any window of at most `4 * P` places.
        #[inline]
        #[target_feature(enable = $features)]
        fn any<const W: usize, const P: usize>(
            block: &Block<'_>,
            lines: Range<u32>,
            output: &mut [u8],
        ) {
            let (of, window, from) = (block.of, &block.of.window, block.from);
            let bounds = Bounds::new(of.zy, of.lo, of.hi);
            let taps = (window.kh * window.kw) as usize;
            let groups = taps.div_ceil(QUAD);
            let mut weights = [[zero(); W]; P];
            for (group, weights) in weights.iter_mut().enumerate().take(groups) {
                let mut places = [NOTHING.as_ptr(); QUAD];
                for (tap, place) in (group * QUAD..taps).zip(&mut places) {
                    *place = of.weights[tap * of.channels + from..][..W * LANES].as_ptr();
                }
                // SAFETY: the slices have the bytes that are read, and so has `NOTHING`.
                *weights = unsafe { quads::<W, QUAD>(places) };
            }
            let (bias, mult) = (words::<W>(of.bias, from), words::<W>(of.mult, from));
            // A place that does not exist meets weights of 0.
            let mut places = [[NOTHING.as_ptr(); QUAD]; P];
            for (oy, pixels) in block.lines(lines, output) {
                let rows = window.rows(oy);
                for (ox, output) in pixels.enumerate() {
                    let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
                    block.see(&mut places, rows, base);
                    let mut acc = bias;
                    for (places, weights) in places.iter().zip(&weights).take(groups) {
                        // SAFETY: at each place the block's channels can be read, `W * LANES` of them.
                        let x = unsafe { quads::<W, QUAD>(*places) };
                        for (acc, (&x, &w)) in acc.iter_mut().zip(x.iter().zip(weights)) {
                            *acc = dot(*acc, x, w);
                        }
                    }
                    bounds.store::<W>(acc, mult, &mut output[from..from + W * LANES]);
                }
            }
        }

        /// Bytes of `N` places side by side: a quad for each channel, zeros where it ends early.
        ///
        /// # Safety
        /// `W * LANES` bytes can be read at each place.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn quads<const W: usize, const N: usize>(places: [*const u8; N]) -> [V; W] {
            let mut quads = [zero(); W];
            for (vector, quad) in quads.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *quad = unsafe { side_by_side(places.map(|at| at.add(vector * LANES))) };
            }
            quads
        }

        /// `W` vectors of 32-bit words.
        #[inline]
        #[target_feature(enable = $features)]
        fn words<const W: usize>(of: &[u8], first: usize) -> [V; W] {
            let mut words = [zero(); W];
            let bytes = &of[first * 4..][..W * LANES * 4];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<{ LANES * 4 }>().0) {
                // SAFETY: the array has the bytes that are read.
                *word = unsafe { load(bytes.as_ptr()) };
            }
            words
        }
    };
}

/// AVX-VNNI: vectors of 256 bits.
pub(super) mod avx {
    use crate::kernels::vector::requant::{Range as Bytes, bytes};

    kernels!("avx2,fma,avxvnni");

    const LANES: usize = 8;
    type V = __m256i;

    /// What all channels of an operator share.
    struct Bounds(Bytes);

    impl Bounds {
        #[inline]
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn new(zy: i32, lo: i32, hi: i32) -> Self {
            Self(Bytes::new(zy, lo, hi))
        }

        /// Accumulators with their biases, as bytes.
        #[inline]
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn store<const W: usize>(&self, acc: [V; W], mult: [V; W], to: &mut [u8]) {
            for ((acc, mult), to) in acc.iter().zip(mult).zip(to.as_chunks_mut::<LANES>().0) {
                let bytes_of = self.0.apply(*acc, _mm256_castsi256_ps(mult));
                // SAFETY: the array has the 8 bytes that are written.
                unsafe { _mm_storel_epi64(to.as_mut_ptr().cast(), bytes(bytes_of, bytes_of)) };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    fn zero() -> V {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    fn splat(word: i32) -> V {
        _mm256_set1_epi32(word)
    }

    /// # Safety
    /// A vector can be read there.
    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    unsafe fn load(at: *const u8) -> V {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    fn dot(acc: V, x: V, w: V) -> V {
        _mm256_dpbusd_avx_epi32(acc, x, w)
    }

    /// # Safety
    /// `LANES` bytes can be read at each place.
    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    unsafe fn side_by_side<const N: usize>(places: [*const u8; N]) -> V {
        // SAFETY: the caller's promise.
        let bytes = places.map(|at| _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(at.cast()) }));
        let mut all = bytes[0];
        for (place, &bytes) in bytes.iter().enumerate().skip(1) {
            let bytes = match place {
                1 => _mm256_slli_epi32::<8>(bytes),
                2 => _mm256_slli_epi32::<16>(bytes),
                _ => _mm256_slli_epi32::<24>(bytes),
            };
            all = _mm256_or_si256(all, bytes);
        }
        all
    }
}

/// AVX-512 with VNNI: vectors of 512 bits.
pub(super) mod avx512 {
    kernels!("avx2,fma,avx512f,avx512vnni");

    const LANES: usize = 16;
    type V = __m512i;

    /// What all channels of an operator share.
    struct Bounds {
        zy: __m512i,
        /// Of real numbers, before the zero point is added.
        lo: __m512,
        hi: __m512,
    }

    impl Bounds {
        #[inline]
        #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
        fn new(zy: i32, lo: i32, hi: i32) -> Self {
            Self {
                zy: _mm512_set1_epi32(zy),
                lo: _mm512_set1_ps((lo - zy) as f32),
                hi: _mm512_set1_ps((hi - zy) as f32),
            }
        }

        /// Accumulators with their biases, as bytes: the vector form of [`crate::arith::requantize`].
        ///
        /// `vmaxps` gives its second operand for what is no number, as `clamp` does.
        #[inline]
        #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
        fn store<const W: usize>(&self, acc: [V; W], mult: [V; W], to: &mut [u8]) {
            for ((acc, mult), to) in acc.iter().zip(mult).zip(to.as_chunks_mut::<LANES>().0) {
                let value = _mm512_mul_ps(_mm512_cvtepi32_ps(*acc), _mm512_castsi512_ps(mult));
                let value = _mm512_min_ps(_mm512_max_ps(value, self.lo), self.hi);
                let whole = _mm512_add_epi32(_mm512_cvtps_epi32(value), self.zy);
                // SAFETY: the array has the 16 bytes that are written.
                unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(whole)) };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
    fn zero() -> V {
        _mm512_setzero_si512()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
    fn splat(word: i32) -> V {
        _mm512_set1_epi32(word)
    }

    /// # Safety
    /// A vector can be read there.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
    unsafe fn load(at: *const u8) -> V {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
    fn dot(acc: V, x: V, w: V) -> V {
        _mm512_dpbusd_epi32(acc, x, w)
    }

    /// # Safety
    /// `LANES` bytes can be read at each place.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
    unsafe fn side_by_side<const N: usize>(places: [*const u8; N]) -> V {
        // SAFETY: the caller's promise.
        let bytes = places.map(|at| _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(at.cast()) }));
        let mut all = bytes[0];
        for (place, &bytes) in bytes.iter().enumerate().skip(1) {
            let bytes = match place {
                1 => _mm512_slli_epi32::<8>(bytes),
                2 => _mm512_slli_epi32::<16>(bytes),
                _ => _mm512_slli_epi32::<24>(bytes),
            };
            all = _mm512_or_si512(all, bytes);
        }
        all
    }
}
