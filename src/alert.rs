//! Alerts: what is wrong now, told once to whoever is to act.
//!
//! ```text
//!  rule files ─► rule ──┐
//!                       ├─ Alert ─► inbox ─► dispatch (groups, silences, queue) ─ Notification ─► channel
//!  anomalies ───────────┘
//! ```
//!
//! [`rule`] evaluates rule files, whose texts are made by [`template`], and says of each alert that it fires or is over; [`dispatch`] groups
//! alerts, holds back what is silenced or inhibited, and keeps the durable queue; a [`channel`] sends one
//! [`Notification`] and says what came of it. Data flows one way: a channel knows no groups, the
//! dispatcher no rules.

pub mod channel;
pub mod dispatch;
mod inbox;
mod notification;
pub mod rule;
pub mod template;

pub use inbox::{Inbox, Posted, inbox};
pub use notification::{Alert, Notification, Pairs, Status};
