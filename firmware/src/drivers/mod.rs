//! Drivers over the traits of `embedded-hal` 1.0, for parts that many boards have.

pub mod grid_eye;
pub mod mirror;
pub mod replay;
pub mod ring;
pub mod spi_nor;
