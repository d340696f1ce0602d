//! Which columns an identifier can mean: the relations of a `FROM`, found as Spark finds them, without regard to case.

use datafusion::sql::sqlparser::ast::{Expr, Ident};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::resolve::quoted;
use crate::error::{Error, Result};

/// The columns of a relation or query, in order. `open` when there may be others that are not known by name (a table
/// function, an unnamed generator): then nothing is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) names: Vec<String>,
    pub(crate) open: bool,
}

impl Columns {
    pub(crate) fn known(names: Vec<String>) -> Self {
        Self { names, open: false }
    }

    pub(crate) fn unknown() -> Self {
        Self { names: Vec::new(), open: true }
    }
}

/// One relation of a `FROM`.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) qualifier: Option<String>,
    pub(crate) columns: Columns,
}

/// The relations of one `FROM`, and which column names `USING` or `NATURAL` merged into one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) relations: Vec<Relation>,
    pub(crate) merged: Vec<String>,
}

/// A scope and those around it (of the queries that a subquery stands in).
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) outer: Option<&'a Names<'a>>,
}

/// What an identifier means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Relation and column as registered.
    pub(crate) qualifier: Option<String>,
    pub(crate) column: String,
    /// How many parts of the identifier name the column; the rest are struct fields.
    pub(crate) parts: usize,
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

impl Scope {
    /// Whether a relation has this name.
    pub(crate) fn has_relation(&self, name: &str) -> bool {
        self.relations.iter().any(|r| r.qualifier.as_deref().is_some_and(|q| same(q, name)))
    }

    /// The columns of `*`: merged ones first, and once.
    pub(crate) fn all_columns(&self) -> Columns {
        let mut all = Columns::default();
        for name in &self.merged {
            if !all.names.iter().any(|known| same(known, name)) {
                all.names.push(name.clone());
            }
        }
        for relation in &self.relations {
            all.open |= relation.columns.open;
            let own = relation.columns.names.iter().filter(|name| !self.merged.iter().any(|m| same(m, name)));
            all.names.extend(own.cloned());
        }
        all
    }

    /// One of [`Scope::all_columns`] as an expression.
    pub(crate) fn column_of_star(&self, name: &str) -> Expr {
        let has = |relation: &&Relation| relation.columns.names.iter().any(|column| column == name);
        let merged = self.merged.iter().any(|m| same(m, name));
        let qualifier = self.relations.iter().find(has).and_then(|relation| relation.qualifier.as_deref());
        match qualifier.filter(|_| !merged) {
            Some(qualifier) => Expr::CompoundIdentifier(vec![quoted(qualifier), quoted(name)]),
            None => Expr::Identifier(quoted(name)),
        }
    }

    /// Finds `relation.column` first, then `column`; an error when several columns answer to it.
    fn find(&self, ids: &[Ident]) -> Result<Option<Found>> {
        if let [qualifier, column, ..] = ids {
            let mut hits = Vec::new();
            for relation in &self.relations {
                let Some(name) = relation.qualifier.as_deref().filter(|q| same(q, &qualifier.value)) else { continue };
                hits.extend(relation.columns.names.iter().filter(|c| same(c, &column.value)).map(|c| (name, c)));
            }
            if let Some((name, column)) = self.only(hits, ids)? {
                return Ok(Some(Found { qualifier: Some(name.to_owned()), column: column.clone(), parts: 2 }));
            }
        }
        let mut hits = Vec::new();
        for relation in &self.relations {
            let name = relation.qualifier.as_deref().unwrap_or("");
            hits.extend(relation.columns.names.iter().filter(|c| same(c, &ids[0].value)).map(|c| (name, c)));
        }
        let merged = self.merged.iter().any(|m| same(m, &ids[0].value));
        if merged {
            hits.truncate(1);
        }
        let alone = self.relations.len() == 1 || merged;
        Ok(self.only(hits, &ids[..1])?.map(|(name, column)| Found {
            qualifier: (!alone && !name.is_empty()).then(|| name.to_owned()),
            column: column.clone(),
            parts: 1,
        }))
    }

    fn only<'a>(&self, hits: Vec<(&'a str, &'a String)>, ids: &[Ident]) -> Result<Option<(&'a str, &'a String)>> {
        if hits.len() < 2 {
            return Ok(hits.into_iter().next());
        }
        // Two columns of one relation that differ only in case: the exact spelling decides.
        let exact: Vec<_> = hits.iter().filter(|(_, c)| **c == ids[ids.len() - 1].value).copied().collect();
        if exact.len() == 1 && hits.iter().all(|(name, _)| *name == hits[0].0) {
            return Ok(Some(exact[0]));
        }
        let mut candidates: Vec<String> = hits.iter().map(|(name, c)| quote(&[name, c])).collect();
        candidates.sort();
        let name = quote(&ids.iter().map(|i| i.value.as_str()).collect::<Vec<_>>());
        Err(Error::analysis_class(
            "AMBIGUOUS_REFERENCE",
            format!(
                "Reference {name} is ambiguous, could be: [{}]{}. Write the relation's name before the column's.",
                candidates.join(", "),
                place(ids[0].span.start)
            ),
        ))
    }

    fn is_open(&self) -> bool {
        self.relations.iter().any(|r| r.columns.open)
    }
}

impl Names<'_> {
    /// Finds a column here or in the queries around; the second answer says how many queries out it was.
    pub(crate) fn find(&self, ids: &[Ident]) -> Result<Option<(Found, usize)>> {
        let mut names = Some(self);
        let mut depth = 0;
        while let Some(here) = names {
            if let Some(found) = here.scope.find(ids)? {
                return Ok(Some((found, depth)));
            }
            names = here.outer;
            depth += 1;
        }
        Ok(None)
    }

    /// Whether some scope may have columns that are not known by name.
    pub(crate) fn is_open(&self) -> bool {
        self.scope.is_open() || self.outer.is_some_and(Names::is_open)
    }

    /// Spark's error for an identifier that nothing answers to, with the nearest names.
    pub(crate) fn unresolved(&self, ids: &[Ident]) -> Error {
        let parts: Vec<&str> = ids.iter().map(|i| i.value.as_str()).collect();
        let qualified = ids.len() > 1 || self.scope.relations.len() > 1;
        let wanted = parts.join(".").to_lowercase();
        let mut candidates: Vec<(usize, String)> = Vec::new();
        for relation in &self.scope.relations {
            for column in &relation.columns.names {
                let parts = match relation.qualifier.as_deref() {
                    Some(qualifier) if qualified => vec![qualifier, column],
                    _ => vec![column.as_str()],
                };
                let distance = strsim::levenshtein(&wanted, &parts.join(".").to_lowercase());
                candidates.push((distance, quote(&parts)));
            }
        }
        candidates.sort();
        candidates.dedup();
        candidates.truncate(5);
        let name = quote(&parts);
        let place = place(ids[0].span.start);
        if candidates.is_empty() {
            return Error::analysis_class(
                "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
                format!(
                    "A column, variable, or function parameter with name {name} cannot be resolved{place}. There is no column \
                     here: write a FROM, or put text in quotes."
                ),
            );
        }
        let candidates: Vec<String> = candidates.into_iter().map(|(_, name)| name).collect();
        Error::analysis_class(
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            format!(
                "A column, variable, or function parameter with name {name} cannot be resolved. Did you mean one of the \
                 following? [{}]{place}",
                candidates.join(", ")
            ),
        )
    }
}

/// Parts in backticks, joined by dots; empty parts left out.
pub(crate) fn quote(parts: &[&str]) -> String {
    let parts: Vec<String> =
        parts.iter().filter(|p| !p.is_empty()).map(|p| format!("`{}`", p.replace('`', "``"))).collect();
    parts.join(".")
}

/// ` (line 1, pos 7)` where that is known.
pub(crate) fn place(at: Location) -> String {
    if at.line == 0 { String::new() } else { format!(" (line {}, pos {})", at.line, at.column.saturating_sub(1)) }
}
