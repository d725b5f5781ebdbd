//! The terminal while the dashboard has it: raw mode, the alternate screen, and the way back.
//!
//! Whatever happens, the terminal is given back: when the guard is dropped, when the process panics, and
//! before it stops on Ctrl-Z. While the guard lives nothing else may write to standard output.

use std::io::{self, IsTerminal, Stdout, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, Event};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, event, execute, terminal};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use tokio::sync::mpsc;

use super::Error;

/// How long the reader of keys waits before it looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(250);

/// Keys that may wait to be taken in; a paste is one.
const EVENTS_MAX: usize = 256;

/// The terminal, taken over until dropped.
#[derive(Debug)]
pub struct Terminal {
    screen: ratatui::Terminal<CrosstermBackend<Stdout>>,
    /// Whether it is ours now: shared with the panic hook, so that it is given back once.
    taken: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the terminal over.
    pub fn enter() -> Result<Self, Error> {
        if !stdout().is_terminal() {
            return Err(Error::NotATerminal);
        }
        let screen = ratatui::Terminal::new(CrosstermBackend::new(stdout()))?;
        let taken = Arc::new(AtomicBool::new(false));
        let mut terminal = Self { screen, taken };
        terminal.restore_on_panic();
        terminal.take()?;
        Ok(terminal)
    }

    pub fn size(&self) -> Result<(u16, u16), Error> {
        let size = self.screen.size()?;
        Ok((size.width, size.height))
    }

    /// Draws a frame; an error once the terminal has been given back because of a panic elsewhere in the
    /// process, whose message must stay readable.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> Result<(), Error> {
        if !self.taken.load(Ordering::SeqCst) {
            return Err(Error::Panicked);
        }
        self.screen.draw(render)?;
        Ok(())
    }

    /// Gives the terminal back, stops the process as a shell's job control expects, and takes the
    /// terminal again once the process is continued.
    pub fn suspend(&mut self) -> Result<(), Error> {
        give_back(&self.taken);
        let process = rustix::process::getpid();
        rustix::process::kill_process(process, rustix::process::Signal::STOP)
            .map_err(io::Error::from)?;
        self.take()
    }

    /// After a stop that asked nobody, such as `kill -STOP`: the shell has had the terminal meanwhile.
    pub fn retake(&mut self) -> Result<(), Error> {
        give_back(&self.taken);
        self.take()
    }

    fn take(&mut self) -> Result<(), Error> {
        // Set first: what was half taken must be given back too.
        self.taken.store(true, Ordering::SeqCst);
        terminal::enable_raw_mode()?;
        execute!(
            stdout(),
            EnterAlternateScreen,
            EnableBracketedPaste,
            cursor::Hide
        )?;
        self.screen.clear()?;
        Ok(())
    }

    /// The message of a panic must be readable, so the terminal goes back before it is printed.
    fn restore_on_panic(&self) {
        let taken = self.taken.clone();
        let inner = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back(&taken);
            inner(panic);
        }));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back(&self.taken);
    }
}

/// Each step is tried even when the one before failed: a terminal half restored is still better.
fn give_back(taken: &AtomicBool) {
    if taken.swap(false, Ordering::SeqCst) {
        let screen = execute!(
            stdout(),
            DisableBracketedPaste,
            LeaveAlternateScreen,
            cursor::Show
        );
        let mode = terminal::disable_raw_mode();
        if let Err(error) = screen.and(mode) {
            tracing::warn!(%error, "the terminal could not be restored");
        }
    }
}

/// Reads the terminal's events on a thread of its own until the receiver is dropped.
///
/// The queue closes when the terminal is gone.
pub fn read_events() -> Result<mpsc::Receiver<Event>, Error> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    thread::Builder::new()
        .name("tui-input".into())
        .spawn(move || {
            while !sender.is_closed() {
                let event = match event::poll(POLL) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let sent = match event {
                    Ok(event) => sender.blocking_send(event).is_ok(),
                    Err(error) => {
                        tracing::warn!(%error, "the terminal cannot be read");
                        false
                    }
                };
                if !sent {
                    return;
                }
            }
        })?;
    Ok(receiver)
}
