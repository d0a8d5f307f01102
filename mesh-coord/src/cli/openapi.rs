//! `openapi`.

use anyhow::Result;

use super::output::print;
use crate::http;

pub(super) fn run() -> Result<()> {
    print(http::openapi::document().trim_end())
}
