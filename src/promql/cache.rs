//! Plans by text: dashboards ask the same again and again, and compiling regexes dominates parsing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::Error;
use super::lower;
use super::plan::Plan;

/// Plans of one generation; two generations are kept.
const PLANS_MAX: usize = 512;
/// Longer texts are made by machines and rarely come twice.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Two generations of plans: when the young one is full it becomes the old one, and what was not
/// asked for since is forgotten.
#[derive(Debug, Default)]
pub(super) struct Cache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<String, Arc<Plan>>,
    old: HashMap<String, Arc<Plan>>,
}

impl Cache {
    pub(super) fn plan(&self, query: &str) -> Result<Arc<Plan>, Error> {
        if let Some(plan) = self.lock().get(query) {
            return Ok(plan);
        }
        // Parsed outside the lock: a slow text must not hold up the others.
        let plan = Arc::new(lower::plan(query)?);
        if query.len() <= TEXT_BYTES_MAX {
            self.lock().insert(query.to_owned(), plan.clone());
        }
        Ok(plan)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        // A panic elsewhere leaves whole plans in whole maps.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn get(&mut self, query: &str) -> Option<Arc<Plan>> {
        if let Some(plan) = self.young.get(query) {
            return Some(plan.clone());
        }
        let (query, plan) = self.old.remove_entry(query)?;
        self.insert(query, plan.clone());
        Some(plan)
    }

    fn insert(&mut self, query: String, plan: Arc<Plan>) {
        if self.young.len() >= PLANS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(query, plan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_made_once_while_it_is_asked_for() {
        let cache = Cache::default();
        let first = cache.plan("up").unwrap();
        for number in 0..PLANS_MAX * 3 {
            cache.plan(&number.to_string()).unwrap();
            assert!(Arc::ptr_eq(&first, &cache.plan("up").unwrap()));
        }
        assert!(cache.lock().young.len() <= PLANS_MAX);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = Cache::default();
        assert!(cache.plan("sum(").is_err());
        assert!(cache.lock().young.is_empty());
    }
}
