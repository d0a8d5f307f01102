//! Reads the modules of a crate from its source and finds which modules depend on each other.
//!
//! An edge goes from a module to each module whose items it names in a path: `use` declarations, and paths that begin
//! with `crate`, `self`, `super` or a sibling module. Re-exports are followed to the module that defines the item.
//! Edges are counted between siblings: a module stands for everything below it. What a module and its own parent use of
//! each other is not counted, nor is test code. Methods are found where they are called, not by path, so an `impl` in
//! another module than its type's makes no edge.
//!
//! The parser is a small one of its own: it knows tokens, braces, `mod`, `use` and paths. It needs no dependency.

mod graph;
mod lex;
mod modules;
mod paths;

pub use graph::{Cycle, Floors, Upward, cycles, upward};
pub use modules::{Crate, read};
