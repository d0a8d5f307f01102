//! `mesh.toml`.

/// See `files::apply`.
pub fn run(data: &[u8]) {
    crate::files::apply("mesh.toml", data);
}
