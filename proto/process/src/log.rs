//! The log on standard error. Its reader may be slow, stop or disappear; the program continues.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    io::{self, Write},
    panic::{self, PanicHookInfo},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{lines::Lines, output::visible_lines, recent::Recent, secrets};

/// How long a program waits at its end for its last lines to be written.
const LAST: Duration = Duration::from_secs(1);
/// Libraries that log every stranger's packet as a warning or an error: silent unless the user names them.
const QUIET: [&str; 5] = ["boringtun", "stun_proto", "stun_types", "turn_server_proto", "turn_types"];

static LINES: OnceLock<Arc<Lines>> = OnceLock::new();
static RECENT: Mutex<Option<Recent>> = Mutex::new(None);

/// Starts the log of a long-running program, at level `info` or as in `$RUST_LOG`.
pub fn start(colours: bool) {
    start_at(LevelFilter::INFO, colours);
}

/// Starts the log of a command: warnings, or as in `$RUST_LOG`.
pub fn start_quietly(colours: bool) {
    start_at(LevelFilter::WARN, colours);
}

fn start_at(level: LevelFilter, colours: bool) {
    let Ok(lines) = Lines::start(io::stderr()) else { return };
    let lines = LINES.get_or_init(|| lines);
    let given = env::var("RUST_LOG").unwrap_or_default();
    let (filter, mistake) = match filter(&given, level) {
        Ok(filter) => (filter, None),
        Err(error) => (default_filter(level), Some(error)),
    };
    let lines = Arc::clone(lines);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Line(Arc::clone(&lines)))
        .with_ansi(colours)
        .log_internal_errors(false)
        .finish();
    // Fails only if a subscriber exists already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    panic::set_hook(Box::new(|info| say(&panic_text(info))));
    if let Some(error) = mistake {
        tracing::warn!("ignoring $RUST_LOG: {error}; write for example RUST_LOG=debug");
    }
}

fn filter(given: &str, level: LevelFilter) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let filter = filter.parse(given).map_err(|e| e.to_string())?;
    Ok(quiet(filter, given))
}

fn default_filter(level: LevelFilter) -> EnvFilter {
    quiet(EnvFilter::default().add_directive(level.into()), "")
}

fn quiet(filter: EnvFilter, given: &str) -> EnvFilter {
    let silent = QUIET.iter().filter(|name| !given.contains(**name));
    silent.filter_map(|name| format!("{name}=off").parse().ok()).fold(filter, EnvFilter::add_directive)
}

/// Prints a message on standard error, in order with the log if there is one, and without blocking longer than the
/// log. Control characters and bidirectional controls are replaced ([`visible_lines`]).
pub fn say(text: &str) {
    let line = format!("{}\n", visible_lines(text.trim_end()));
    match LINES.get() {
        Some(lines) => write(lines, line.as_bytes()),
        // There is no other place to report to.
        None => drop(io::stderr().lock().write_all(line.as_bytes())),
    }
}

/// The latest lines of the log, about 64 KiB, without colours and with every token starred out.
#[must_use]
pub fn recent() -> Vec<String> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.as_ref().map(Recent::lines).unwrap_or_default()
}

fn write(lines: &Lines, line: &[u8]) {
    let kept = secrets::starred(line);
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().push(&kept);
    lines.push(line);
}

/// Waits a moment for the last lines to be written, before the program ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST);
    }
}

/// The message of a panic. The standard hook would write to standard error itself, and block there while the
/// panicking task holds its locks.
fn panic_text(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|s| &**s));
    let thread = thread::current();
    let (name, message) = (thread.name().unwrap_or("unnamed"), message.unwrap_or("without a message"));
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
    format!("error: the thread {name} panicked{place}: {message} (please report this){trace}")
}

/// The subscriber's writer: one call per line.
struct Line(Arc<Lines>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(&self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_log_about_every_packet_is_left_out_unless_it_is_asked_for() {
        for (given, boringtun) in [("", false), ("debug", false), ("info,boringtun=debug", true)] {
            assert_eq!(
                filter(given, LevelFilter::INFO).unwrap().to_string().contains("boringtun=off"),
                !boringtun,
                "{given}"
            );
        }
        assert!(filter("mesh=loud=er", LevelFilter::INFO).is_err());
    }
}
