//! Which file defines which object, and whose definition counts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::SourceProblem;
use super::manifest::{Definition, Manifest, Problem};
use crate::translate::finding::Reason;
use crate::world::{Delta, Kind, Object, ObjectKey};

/// All files, what they define, and what has been told of it.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    files: BTreeMap<Arc<Path>, Content>,
    /// Definitions by object; the first in the order of their ranks counts.
    definitions: BTreeMap<ObjectKey, BTreeMap<Rank, Definition>>,
    /// Objects with more than one definition.
    contested: BTreeSet<ObjectKey>,
    /// Objects whose definitions changed since the last deltas.
    touched: BTreeSet<ObjectKey>,
    /// What the receiver of the deltas has.
    told: BTreeMap<ObjectKey, Object>,
    /// Files with problems of their own.
    troubled: BTreeSet<Arc<Path>>,
}

#[derive(Debug, Default)]
struct Content {
    ranks: Vec<(ObjectKey, Rank)>,
    invalid: Vec<Problem>,
    unreadable: Option<String>,
    /// Whether the file is gone and only not yet forgotten.
    leaving: bool,
}

/// Sorts definitions of one object. What stands in a file goes before what stood there once and
/// is kept for a broken document; then the order of paths and of documents decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    kept: bool,
    file: Arc<Path>,
    index: usize,
}

impl Catalogue {
    /// Takes in what a file says now. While any of its documents is broken, objects that it
    /// defined and does not define now are kept: one of them may be the broken one.
    pub(super) fn replace(&mut self, file: &Arc<Path>, manifest: Manifest) {
        let before = self.retract(file);
        let mut content = Content {
            invalid: manifest.problems,
            ..Content::default()
        };
        let fresh: HashSet<ObjectKey> = manifest
            .objects
            .iter()
            .map(|definition| definition.object.key())
            .collect();
        let kept: Vec<Definition> = if content.invalid.is_empty() {
            Vec::new()
        } else {
            before
                .into_iter()
                .filter(|definition| !fresh.contains(&definition.object.key()))
                .collect()
        };
        let all = manifest.objects.into_iter().map(|fresh| (false, fresh));
        let all = all.chain(kept.into_iter().map(|kept| (true, kept)));
        for (index, (kept, definition)) in all.enumerate() {
            let key = definition.object.key();
            let rank = Rank {
                kept,
                file: Arc::clone(file),
                index,
            };
            content.ranks.push((key.clone(), rank.clone()));
            let definitions = self.definitions.entry(key.clone()).or_default();
            definitions.insert(rank, definition);
            if definitions.len() > 1 {
                self.contested.insert(key.clone());
            }
            self.touched.insert(key);
        }
        self.mark(file, content.is_troubled());
        self.files.insert(Arc::clone(file), content);
    }

    /// The file cannot be read; what it said last stays.
    pub(super) fn fail(&mut self, file: &Arc<Path>, message: String) {
        let content = self.files.entry(Arc::clone(file)).or_default();
        content.unreadable = Some(message);
        self.mark(file, true);
    }

    /// The file is not there. It still counts until it is removed, but a second definition of
    /// what it defines is no problem.
    pub(super) fn set_leaving(&mut self, file: &Path, leaving: bool) {
        if let Some(content) = self.files.get_mut(file) {
            content.leaving = leaving;
        }
    }

    /// The file is gone, with all that it defined.
    pub(super) fn remove(&mut self, file: &Path) {
        self.retract(file);
        self.files.remove(file);
        self.troubled.remove(file);
    }

    /// Whether the file defines anything.
    pub(super) fn defines(&self, file: &Path) -> bool {
        self.files
            .get(file)
            .is_some_and(|content| !content.ranks.is_empty())
    }

    /// What changed since the last call.
    pub(super) fn deltas(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for key in std::mem::take(&mut self.touched) {
            let winner = self.winner(&key);
            match self.told.entry(key) {
                Entry::Occupied(told) => match winner {
                    Some(object) if *told.get() == object => {}
                    Some(object) => {
                        *told.into_mut() = object.clone();
                        deltas.push(Delta::Apply(object));
                    }
                    None => {
                        let (key, _) = told.remove_entry();
                        deltas.push(Delta::Delete(key));
                    }
                },
                Entry::Vacant(untold) => {
                    if let Some(object) = winner {
                        untold.insert(object.clone());
                        deltas.push(Delta::Apply(object));
                    }
                }
            }
        }
        deltas
    }

    /// Everything, kind by kind, also the kinds of which there is nothing.
    pub(super) fn resets(&mut self) -> Vec<Delta> {
        self.deltas();
        let mut kinds: BTreeMap<Kind, Vec<Object>> =
            Kind::ALL.into_iter().map(|kind| (kind, vec![])).collect();
        for object in self.told.values() {
            kinds.entry(object.kind()).or_default().push(object.clone());
        }
        kinds
            .into_iter()
            .map(|(kind, objects)| Delta::Reset(kind.into(), objects, Vec::new()))
            .collect()
    }

    /// Every object, of several definitions the one that counts.
    pub(super) fn into_objects(mut self) -> Vec<Object> {
        self.deltas();
        self.told.into_values().collect()
    }

    /// All problems there are, in the order of files.
    pub(super) fn problems(&self) -> Vec<SourceProblem> {
        let mut problems = Vec::new();
        for file in &self.troubled {
            let Some(content) = self.files.get(file) else {
                continue;
            };
            let unreadable = content.unreadable.as_ref();
            problems
                .extend(unreadable.map(|message| SourceProblem::unreadable(file, message.clone())));
            let invalid = content.invalid.iter();
            problems.extend(invalid.map(|problem| SourceProblem::invalid(file, problem)));
        }
        for (key, definitions) in self
            .contested
            .iter()
            .filter_map(|key| Some((key, self.definitions.get(key)?)))
        {
            let mut present = definitions
                .iter()
                .filter(|(rank, _)| !rank.kept && !self.is_leaving(&rank.file));
            let Some((first, winner)) = present.next() else {
                continue;
            };
            problems.extend(present.map(|(rank, definition)| SourceProblem {
                line: Some(definition.line),
                object: Some(key.clone()),
                reason: Reason::DuplicateObject,
                ..SourceProblem::unreadable(
                    &rank.file,
                    format!(
                        "defined a second time and not used; {}:{} is; remove one of them",
                        first.file.display(),
                        winner.line
                    ),
                )
            }));
        }
        problems.sort();
        problems
    }

    fn winner(&self, key: &ObjectKey) -> Option<Object> {
        let (_, definition) = self.definitions.get(key)?.first_key_value()?;
        Some(definition.object.clone())
    }

    fn is_leaving(&self, file: &Path) -> bool {
        self.files.get(file).is_some_and(|content| content.leaving)
    }

    fn mark(&mut self, file: &Arc<Path>, troubled: bool) {
        if troubled {
            self.troubled.insert(Arc::clone(file));
        } else {
            self.troubled.remove(file);
        }
    }

    /// Takes a file's definitions out and returns them.
    fn retract(&mut self, file: &Path) -> Vec<Definition> {
        let Some(content) = self.files.get_mut(file) else {
            return Vec::new();
        };
        let mut retracted = Vec::new();
        for (key, rank) in std::mem::take(&mut content.ranks) {
            if let Entry::Occupied(mut definitions) = self.definitions.entry(key.clone()) {
                retracted.extend(definitions.get_mut().remove(&rank));
                if definitions.get().len() <= 1 {
                    self.contested.remove(&key);
                }
                if definitions.get().is_empty() {
                    definitions.remove();
                }
            }
            self.touched.insert(key);
        }
        retracted
    }
}

impl Content {
    fn is_troubled(&self) -> bool {
        !self.invalid.is_empty() || self.unreadable.is_some()
    }
}
