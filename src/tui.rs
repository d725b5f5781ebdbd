//! The terminal dashboard: a client of the HTTP API like any other.
//!
//! ```text
//!  terminal ──event──► keymap ──┐
//!  clock    ──tick──────────────┤ Action
//!  fetch    ──answer────────────┴──────► update ──► State ──► view ──► frame
//!     ▲                                    │
//!     └───────────── Effect ◄──────────────┘
//! ```
//!
//! `update` and `view` are pure; only this loop, `terminal` and `fetch` do I/O. One task owns the state.
//! A frame is drawn when something has changed, at most thirty times a second; nothing is asked of the
//! server but what the visible screen shows.

pub mod action;
pub mod fetch;
pub mod keymap;
pub mod state;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod view;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use self::action::{Action, Effect};
use self::state::State;
use self::terminal::Terminal;
use self::theme::Theme;
use crate::client::Client;
use crate::model::{Clock, SystemClock};
use crate::shutdown::Shutdown;

/// How often the clock on the screen moves.
const TICK: Duration = Duration::from_secs(1);

/// The shortest time between two frames.
const FRAME: Duration = Duration::from_millis(33);

/// A dashboard waits no longer than this for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the dashboard needs a terminal, and standard output is none")]
    NotATerminal,
    #[error("a task of this process panicked, its message stands above")]
    Panicked,
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
}

/// What a caller may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is, as the header and the advice write it: `http://127.0.0.1:9490`.
    pub server: String,
    /// UTC instead of `$TZ`.
    pub utc: bool,
    pub clock: Arc<dyn Clock>,
}

impl Options {
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            utc: false,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// A request on its way.
type Fetching = Pin<Box<dyn Future<Output = Action> + Send>>;

/// Shows the dashboard until the operator quits, the terminal goes away, or the process stops.
///
/// Standard output is the dashboard's alone while this runs. Quitting does not stop the process: that is
/// for the caller to do.
pub async fn run(client: Client, options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let client = client.with_timeout(ANSWER_TIMEOUT);
    let theme = Theme::detect(|name| std::env::var(name).ok());
    let zone = if options.utc {
        TimeZone::UTC
    } else {
        TimeZone::system()
    };
    let mut state = State::new(options.server, zone, options.clock.now());
    let mut terminal = Terminal::enter()?;
    let (width, height) = terminal.size()?;
    update::update(&mut state, Action::Resize { width, height });

    let mut events = terminal::read_events()?;
    let mut stopped = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let mut ticks = interval(TICK);
    let mut frames = interval(FRAME);
    let mut fetching: Option<Fetching> = None;
    let mut changed = true;
    loop {
        let action = tokio::select! {
            () = shutdown.begun() => return Ok(()),
            event = events.recv() => match event {
                Some(event) => keymap::resolve(&event, &state),
                None => return Ok(()),
            },
            action = answer(&mut fetching) => {
                fetching = None;
                Some(action)
            }
            _ = ticks.tick() => Some(Action::Tick {
                now: options.clock.now(),
                monotonic: options.clock.monotonic(),
            }),
            _ = stopped.recv() => {
                terminal.suspend()?;
                None
            }
            _ = continued.recv() => {
                terminal.retake()?;
                None
            }
            _ = frames.tick(), if changed => {
                terminal.draw(|frame| view::render(frame, &state, theme))?;
                changed = false;
                continue;
            }
        };
        changed = true;
        let Some(action) = action else {
            continue;
        };
        match update::update(&mut state, action) {
            None => {}
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Suspend) => terminal.suspend()?,
            Some(Effect::Fetch(request)) => {
                let client = client.clone();
                // Whatever was on its way answers an older wish: it is dropped, and with it the request.
                fetching = Some(Box::pin(
                    async move { fetch::fetch(&client, request).await },
                ));
            }
        }
    }
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The answer to the request on its way; never, when there is none.
async fn answer(fetching: &mut Option<Fetching>) -> Action {
    match fetching {
        Some(fetching) => fetching.await,
        None => std::future::pending().await,
    }
}
