//! The whole runtime, linked for a microcontroller: `cargo xtask test` holds its size against the budget.
//!
//! Nothing runs it. What it is given is hidden from the optimizer, so that loader, every operator and every
//! kernel of the target stay in; elsewhere it is an empty program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use core::hint::black_box;
    use fleetway_qnn::{Input, Kernels, Model, Output};

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// Where the linker begins to look for what is needed.
    #[allow(unsafe_code, reason = "the linker wants this name; nobody calls it")]
    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        static FILE: [u8; 64] = [0; 64];
        let (mut arena, mut result) = ([0; 64], [0.0; 4]);
        let file: &[u8] = black_box(&FILE);
        if let Ok(model) = Model::load(file) {
            let (input, bytes): (&[f32], &[u8]) = (black_box(&[0.0]), black_box(&[0]));
            let inputs = [Input::F32(input), Input::U8(bytes)];
            let mut outputs = [Output::F32(&mut result)];
            let arena: &mut [u8] = black_box(&mut arena);
            let _ = black_box(model.run(Kernels::best(), arena, &inputs, &mut outputs));
        }
        loop {}
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
