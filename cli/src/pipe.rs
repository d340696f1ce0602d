//! Standard output whose reader has gone (`wavetank run ... | head -1`): the program ends at once and says nothing.
//!
//! Other programs are ended by the signal `SIGPIPE` then; Rust's ignore it, and get an error from the next write. Ending at
//! once is what a kill does too: checkpoints are made for it. Absent: sockets and files, whose errors are told.

use std::io::{self, ErrorKind, Write};
use std::panic;

/// What a shell shows of a program that `SIGPIPE` has ended: 128 and the signal's number.
const READER_GONE: i32 = 141;

/// From now on a `println!` into a pipe without a reader ends the program quietly; it would panic.
pub fn end_quietly() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(READER_GONE);
        }
        tell(info);
    }));
}

/// Standard output; a write into a pipe without a reader ends the program.
#[derive(Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_gone(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_gone(io::stdout().flush())
    }
}

fn unless_gone<T>(written: io::Result<T>) -> io::Result<T> {
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        std::process::exit(READER_GONE);
    }
    written
}
