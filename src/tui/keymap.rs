//! The one key table: it resolves keys, and the footer, the help overlay and the README are drawn
//! from it, so that none of them can tell a key that does not work.
//!
//! A binding holds in its modes and, when it names a screen, on that screen only. In the modes in which
//! one types, a character that nothing binds is text.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::action::{Action, Command};
use super::state::{Mode, Screen, State};

/// A key as it is pressed. Shift is part of the character or of the code (`BackTab`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub code: KeyCode,
    pub ctrl: bool,
}

impl Key {
    const fn of(code: KeyCode) -> Self {
        Self { code, ctrl: false }
    }

    const fn char(character: char) -> Self {
        Self::of(KeyCode::Char(character))
    }

    const fn ctrl(character: char) -> Self {
        Self {
            code: KeyCode::Char(character),
            ctrl: true,
        }
    }

    /// How people write it: `Ctrl-C`, `PgUp`, `↑`.
    pub fn name(self) -> String {
        let name = match self.code {
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(character) if self.ctrl => character.to_uppercase().to_string(),
            KeyCode::Char(character) => character.to_string(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::Up => "↑".to_owned(),
            KeyCode::Down => "↓".to_owned(),
            KeyCode::Left => "←".to_owned(),
            KeyCode::Right => "→".to_owned(),
            other => format!("{other:?}"),
        };
        if self.ctrl {
            format!("Ctrl-{name}")
        } else {
            name
        }
    }
}

/// What a binding is about: a heading of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Screens,
    Lists,
    Time,
    General,
    Typing,
}

impl Topic {
    pub const ALL: [Self; 5] = [
        Self::General,
        Self::Screens,
        Self::Lists,
        Self::Time,
        Self::Typing,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Screens => "Screens",
            Self::Lists => "Lists",
            Self::Time => "Time",
            Self::General => "General",
            Self::Typing => "Typing",
        }
    }
}

/// One row of the key table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub modes: &'static [Mode],
    /// `None`: on every screen.
    pub screen: Option<Screen>,
    pub keys: &'static [Key],
    pub command: Command,
    /// What it does, in a few words.
    pub hint: &'static str,
    pub topic: Topic,
    /// The word in the footer, for those that have a place there.
    pub footer: Option<&'static str>,
}

impl Binding {
    pub fn holds(&self, mode: Mode, screen: Screen) -> bool {
        self.modes.contains(&mode) && self.screen.is_none_or(|only| only == screen)
    }

    /// All keys in one text: `↑ k`.
    pub fn key_names(&self) -> String {
        let names: Vec<String> = self.keys.iter().map(|key| key.name()).collect();
        names.join(" ")
    }
}

const NORMAL: &[Mode] = &[Mode::Normal];
const HELP: &[Mode] = &[Mode::Help];
const TYPING: &[Mode] = &[Mode::Filter, Mode::Edit];
const EDIT: &[Mode] = &[Mode::Edit];
const READING: &[Mode] = &[Mode::Normal, Mode::Help];
const EVERY: &[Mode] = &[Mode::Normal, Mode::Filter, Mode::Edit, Mode::Help];

const fn bind(
    modes: &'static [Mode],
    keys: &'static [Key],
    command: Command,
    hint: &'static str,
    topic: Topic,
) -> Binding {
    Binding {
        modes,
        screen: None,
        keys,
        command,
        hint,
        topic,
        footer: None,
    }
}

impl Binding {
    const fn on(self, screen: Screen) -> Self {
        Self {
            screen: Some(screen),
            ..self
        }
    }

    const fn footer(self, word: &'static str) -> Self {
        Self {
            footer: Some(word),
            ..self
        }
    }
}

/// The key table. The order is that of the help and of the footer.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = {
    use Command as C;
    use KeyCode as K;
    use Topic::{General, Lists, Screens, Time, Typing};
    &[
        bind(NORMAL, &[Key::char('?')], C::Help, "show the keys", General).footer("help"),
        bind(HELP, &[Key::of(K::Esc), Key::char('?'), Key::char('q')], C::Back, "close the help", General).footer("close"),
        bind(NORMAL, &[Key::char('q')], C::Quit, "quit", General).footer("quit"),
        bind(EVERY, &[Key::ctrl('c')], C::Quit, "quit, also while typing", General),
        bind(EVERY, &[Key::ctrl('z')], C::Suspend, "suspend; fg returns", General),
        bind(NORMAL, &[Key::char('r')], C::Refresh, "ask the server now", General),
        bind(NORMAL, &[Key::of(K::Esc)], C::Back, "clear filter, or go back", General),

        bind(NORMAL, &[Key::of(K::Tab)], C::NextScreen, "next screen", Screens).footer("screen"),
        bind(NORMAL, &[Key::of(K::BackTab)], C::PreviousScreen, "previous screen", Screens),
        bind(NORMAL, &[Key::char('1')], C::ShowOverview, "overview: the migrations", Screens),
        bind(NORMAL, &[Key::char('2')], C::ShowCdc, "CDC: tables and partitions", Screens),
        bind(NORMAL, &[Key::char('3')], C::ShowAnomalies, "anomalies", Screens),
        bind(NORMAL, &[Key::char('4')], C::ShowExplore, "explore: PromQL", Screens),
        bind(NORMAL, &[Key::char(':'), Key::char('e')], C::Edit, "type a PromQL expression", Screens).footer("query"),

        bind(READING, &[Key::of(K::Up), Key::char('k')], C::Up, "up", Lists),
        bind(READING, &[Key::of(K::Down), Key::char('j')], C::Down, "down", Lists),
        bind(READING, &[Key::of(K::PageUp)], C::PageUp, "ten rows up", Lists),
        bind(READING, &[Key::of(K::PageDown)], C::PageDown, "ten rows down", Lists),
        bind(READING, &[Key::of(K::Home), Key::char('g')], C::First, "first row", Lists),
        bind(READING, &[Key::of(K::End), Key::char('G')], C::Last, "last row", Lists),
        bind(NORMAL, &[Key::of(K::Left), Key::of(K::Right), Key::char('h'), Key::char('l')], C::NextPanel, "tables or partitions", Lists).on(Screen::Cdc).footer("panel"),
        bind(NORMAL, &[Key::of(K::Enter)], C::Open, "explore the row's query", Lists).on(Screen::Overview).footer("explore"),
        bind(NORMAL, &[Key::of(K::Enter)], C::Open, "explore the row's query", Lists).on(Screen::Cdc).footer("explore"),
        bind(NORMAL, &[Key::of(K::Enter)], C::Open, "explore the row's query", Lists).on(Screen::Anomalies).footer("explore"),
        bind(NORMAL, &[Key::of(K::Enter)], C::Edit, "edit the expression", Lists).on(Screen::Explore),
        bind(NORMAL, &[Key::char('/')], C::Filter, "filter rows; !text inverts", Lists).footer("filter"),

        bind(NORMAL, &[Key::char(' ')], C::PauseOrResume, "pause or resume", Time).footer("pause"),
        bind(NORMAL, &[Key::char('[')], C::Earlier, "earlier by half a chart", Time).footer("earlier"),
        bind(NORMAL, &[Key::char(']')], C::Later, "later by half a chart", Time).footer("later"),
        bind(NORMAL, &[Key::char('+'), Key::char('=')], C::ZoomIn, "shorter span", Time).footer("zoom in"),
        bind(NORMAL, &[Key::char('-')], C::ZoomOut, "longer span", Time).footer("zoom out"),
        bind(NORMAL, &[Key::char('L')], C::Live, "back to now", Time).footer("live"),

        bind(TYPING, &[Key::of(K::Enter)], C::Accept, "accept", Typing).footer("accept"),
        bind(TYPING, &[Key::of(K::Esc)], C::Cancel, "cancel; clears a filter", Typing).footer("cancel"),
        bind(EDIT, &[Key::of(K::Up), Key::ctrl('p')], C::OlderExpression, "older expression", Typing).footer("older"),
        bind(EDIT, &[Key::of(K::Down), Key::ctrl('n')], C::NewerExpression, "newer expression", Typing).footer("newer"),
        bind(TYPING, &[Key::of(K::Left), Key::ctrl('b')], C::CursorLeft, "cursor left", Typing),
        bind(TYPING, &[Key::of(K::Right), Key::ctrl('f')], C::CursorRight, "cursor right", Typing),
        bind(TYPING, &[Key::of(K::Home), Key::ctrl('a')], C::CursorStart, "start of the line", Typing),
        bind(TYPING, &[Key::of(K::End), Key::ctrl('e')], C::CursorEnd, "end of the line", Typing),
        bind(TYPING, &[Key::of(K::Backspace), Key::ctrl('h')], C::DeleteBefore, "delete before", Typing),
        bind(TYPING, &[Key::of(K::Delete), Key::ctrl('d')], C::DeleteAfter, "delete after", Typing),
        bind(TYPING, &[Key::ctrl('w')], C::DeleteWord, "delete the word before", Typing),
        bind(TYPING, &[Key::ctrl('u')], C::DeleteLine, "delete the line", Typing).footer("clear"),
    ]
};

/// What an event of the terminal means in the present mode; `None` when nothing.
pub fn resolve(event: &Event, state: &State) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => resolve_key(*key, state),
        Event::Resize(width, height) => Some(Action::Resize {
            width: *width,
            height: *height,
        }),
        Event::Paste(text) if TYPING.contains(&state.mode) => Some(Action::Paste(text.clone())),
        _ => None,
    }
}

fn resolve_key(event: KeyEvent, state: &State) -> Option<Action> {
    if event.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let key = Key {
        code: event.code,
        ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
    };
    let bound = BINDINGS
        .iter()
        .find(|binding| binding.holds(state.mode, state.screen) && binding.keys.contains(&key));
    match (bound, event.code) {
        (Some(binding), _) => Some(Action::Command(binding.command)),
        (None, KeyCode::Char(character)) if !key.ctrl && TYPING.contains(&state.mode) => {
            Some(Action::Type(character))
        }
        _ => None,
    }
}

/// The rows of the help under one heading, each command once: keys and hint.
pub fn help(topic: Topic) -> Vec<(String, &'static str)> {
    let mut rows: Vec<(String, &'static str)> = Vec::new();
    for binding in BINDINGS.iter().filter(|binding| binding.topic == topic) {
        let row = (binding.key_names(), binding.hint);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// The key table as Markdown, which the README holds.
pub fn markdown() -> String {
    let mut text = String::from("| keys | what they do |\n| --- | --- |\n");
    for topic in Topic::ALL {
        text.push_str(&format!("| **{}** | |\n", topic.title()));
        for (keys, hint) in help(topic) {
            let keys: Vec<String> = keys.split(' ').map(|key| format!("`{key}`")).collect();
            text.push_str(&format!("| {} | {hint} |\n", keys.join(" ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::model::Timestamp;

    const MODES: [Mode; 4] = [Mode::Normal, Mode::Filter, Mode::Edit, Mode::Help];

    fn press(code: KeyCode, modifiers: KeyModifiers) -> Event {
        Event::Key(KeyEvent::new(code, modifiers))
    }

    fn command(event: &Event, state: &State) -> Option<Command> {
        match resolve(event, state) {
            Some(Action::Command(command)) => Some(command),
            _ => None,
        }
    }

    fn state(mode: Mode) -> State {
        let mut state = State::new("s", TimeZone::UTC, Timestamp::EPOCH);
        state.mode = mode;
        state
    }

    #[test]
    fn every_command_has_a_key() {
        for command in Command::ALL {
            let bound = BINDINGS.iter().any(|binding| binding.command == *command);
            assert!(bound, "{command:?} is bound to no key");
        }
    }

    #[test]
    fn no_key_means_two_things() {
        for (mode, screen) in MODES
            .iter()
            .flat_map(|mode| Screen::ALL.map(|screen| (*mode, screen)))
        {
            let mut seen = BTreeSet::new();
            for binding in BINDINGS.iter().filter(|one| one.holds(mode, screen)) {
                for key in binding.keys {
                    let name = key.name();
                    assert!(
                        seen.insert(name.clone()),
                        "{name} in {mode:?} on {screen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_mode_that_types_binds_no_plain_character() {
        for binding in BINDINGS {
            let typing = binding.modes.iter().any(|mode| TYPING.contains(mode));
            let plain = binding
                .keys
                .iter()
                .any(|key| matches!(key.code, KeyCode::Char(_)) && !key.ctrl);
            assert!(!(typing && plain), "{:?} would eat text", binding.command);
        }
    }

    #[test]
    fn shifted_characters_resolve() {
        let normal = state(Mode::Normal);
        let last = press(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(command(&last, &normal), Some(Command::Last));
        let back = press(KeyCode::BackTab, KeyModifiers::SHIFT);
        assert_eq!(command(&back, &normal), Some(Command::PreviousScreen));
    }

    #[test]
    fn letters_are_text_while_typing_and_ctrl_c_still_quits() {
        let edit = state(Mode::Edit);
        let letter = press(KeyCode::Char('q'), KeyModifiers::NONE);
        assert!(matches!(resolve(&letter, &edit), Some(Action::Type('q'))));
        let quit = press(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(command(&quit, &edit), Some(Command::Quit));
    }

    #[test]
    fn a_key_of_another_screen_does_nothing() {
        let overview = state(Mode::Normal);
        let panel = press(KeyCode::Left, KeyModifiers::NONE);
        assert_eq!(command(&panel, &overview), None);
    }

    #[test]
    fn the_markdown_table_names_every_key() {
        let table = markdown();
        for key in BINDINGS.iter().flat_map(|binding| binding.keys) {
            assert!(table.contains(&format!("`{}`", key.name())), "{key:?}");
        }
    }
}
