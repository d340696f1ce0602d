//! SIGINT and SIGTERM: the first asks for a good end, the second is an end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const STOPPED_AT_ONCE: i32 = 130;

/// Listens from now on. The receiver turns true at the first signal, which is answered with `what` will be waited for;
/// the second ends the process where it stands, which is as safe as a crash: the next start goes on from the checkpoint.
pub fn listen(what: &'static str) -> io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (asked, receiver) = watch::channel(false);
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        eprintln!("stopping after {what}; once more to stop at once");
        let _ = asked.send(true);
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(STOPPED_AT_ONCE);
    });
    Ok(receiver)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
