//! Durations, and dates as people read them.

pub(crate) use mesh_process::{
    date::date,
    duration::{parse, parse_short, show, show_short},
};
