//! The store as a whole: against a model, over restarts, seals, crashes and damage.

mod behaviour;
mod crash;
mod damage;
mod disk;
mod failure;
mod forget;
mod model;
mod operations;
mod upkeep;
