//! Moves a user's script into the simulated world, as text: what runs there can be read on the page of a failure.
//!
//! Handles: every format to read from (a stream becomes a tape, one block a batch) and to write to (a sink becomes a
//! witness), views and settings as they stand, static tables (their rows become part of the text), triggers that end a
//! query (left out: the world decides when everything is taken). One query lives in a world: where two share a process,
//! a crash meets them at different places, and no single run without faults has batches to compare both with. Absent:
//! what a source or sink of that format does on its own; that is tested with the connector.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use wavetank_engine::session::Session;
use wavetank_engine::source::SourceDefinition;
use wavetank_engine::sql::script::{CreateStreamingTable, CreateTable};
use wavetank_engine::sql::{Located, Statement, parse_script, spark_type_name};
use wavetank_engine::{Error, Result};

use super::hints::Hints;
use crate::witness::json_rows;

/// A stream of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Its name, which is the name of the tape too.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
}

/// A script that lives in the simulated world.
#[derive(Clone, Debug, PartialEq)]
pub struct UserScript {
    /// The streaming table under test, which is the name of its witness too.
    pub name: String,
    /// The script over tapes and witnesses.
    pub text: String,
    /// Its streams.
    pub streams: Vec<Stream>,
    /// What the script talks about.
    pub hints: Hints,
}

/// What a script does not say itself: the columns of streams that it does not declare, and static tables with their
/// rows (JSON objects), by name.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Columns of streams.
    pub columns: BTreeMap<String, SchemaRef>,
    /// Static tables.
    pub tables: BTreeMap<String, (SchemaRef, Vec<String>)>,
}

impl Known {
    /// Looks up in a session what a script does not say: tables of the script are made there, and static ones are read.
    pub async fn of(text: &str, session: &Session) -> Result<Self> {
        let statements = parse_script(text)?;
        let streamed = streams_of(&statements);
        let mut known = Self::default();
        for Located { statement, .. } in statements {
            let Statement::CreateTable(CreateTable { name, columns, using, options, .. }) = statement else { continue };
            let is_stream = streamed.contains(&name.to_lowercase());
            if is_stream && columns.is_some() {
                continue;
            }
            let format = using.unwrap_or_else(|| "parquet".to_owned());
            session.create_table(&name, &format, SourceDefinition { schema: columns, options }).await?;
            if is_stream {
                let frame = session.sql(format!("SELECT * FROM STREAM {}", quoted(&name)).as_str()).await?;
                known.columns.insert(name, frame.schema());
            } else {
                let frame = session.sql(format!("SELECT * FROM {}", quoted(&name)).as_str()).await?;
                known.tables.insert(name, (frame.schema(), json_rows(&frame.collect().await?)?));
            }
        }
        Ok(known)
    }
}

impl UserScript {
    /// Moves each query of a script into a world of its own, in the order of its `CREATE STREAMING TABLE`s.
    pub fn all(text: &str, known: &Known) -> Result<Vec<Self>> {
        let names = parse_script(text)?.into_iter().filter_map(|located| match located.statement {
            Statement::CreateStreamingTable(table) => Some(table.name),
            _ => None,
        });
        let moved = names.map(|name| Self::new(text, &name, known)).collect::<Result<Vec<_>>>()?;
        if moved.is_empty() {
            return Err(Error::analysis(
                "The script has no CREATE STREAMING TABLE, so there is nothing to simulate. Add the query to test.",
            ));
        }
        Ok(moved)
    }

    /// Moves a script with its streaming table `name` into the world; other streaming tables stay behind.
    pub fn new(text: &str, name: &str, known: &Known) -> Result<Self> {
        let statements = parse_script(text)?;
        let streamed = streams_of(&statements);
        let mut moved = Self { name: name.to_owned(), text: String::new(), streams: vec![], hints: Hints::of(text) };
        for Located { text, statement, .. } in statements {
            let text = match statement {
                Statement::CreateTable(table) if streamed.contains(&table.name.to_lowercase()) => {
                    let schema = match &table.columns {
                        Some(columns) => columns.clone(),
                        None => known.columns.get(&table.name).cloned().ok_or_else(|| unknown(&table.name))?,
                    };
                    let text = create_tape(&table.name, &schema);
                    moved.streams.push(Stream { name: table.name, schema });
                    text
                }
                Statement::CreateTable(table) => {
                    let (schema, rows) = known.tables.get(&table.name).ok_or_else(|| unknown(&table.name))?;
                    format!(
                        "CREATE TABLE {} ({})\n  USING given OPTIONS (rows '{}')",
                        quoted(&table.name),
                        ddl(schema),
                        escaped(&rows.join("\n"))
                    )
                }
                Statement::CreateStreamingTable(table) if table.name == name => witnessed(&table),
                Statement::CreateStreamingTable(_) | Statement::Query(_) | Statement::Explain { .. } => continue,
                _ => text,
            };
            moved.text.push_str(&text);
            moved.text.push_str(";\n");
        }
        if moved.streams.is_empty() {
            return Err(Error::analysis(
                "The script reads no table with STREAM, so no rows can arrive. Write FROM STREAM name.",
            ));
        }
        Ok(moved)
    }
}

fn unknown(name: &str) -> Error {
    Error::analysis(format!("Nothing is known of the table {name}. Declare its columns."))
}

/// The statement that makes a stream of this name a tape, read one block a batch.
pub fn create_tape(name: &str, schema: &Schema) -> String {
    let quoted = quoted(name);
    format!("CREATE TABLE {quoted} ({})\n  USING tape OPTIONS (name '{name}', blocksPerTrigger '1')", ddl(schema))
}

/// The tables that a script reads with `STREAM name`, in lower case.
pub fn streams_of(statements: &[Located]) -> BTreeSet<String> {
    let mut streams = BTreeSet::new();
    for Located { text, .. } in statements {
        let words =
            text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).filter(|word| !word.is_empty());
        let words: Vec<String> = words.map(str::to_lowercase).collect();
        streams.extend(words.windows(2).filter(|pair| pair[0] == "stream").map(|pair| pair[1].clone()));
    }
    streams
}

fn witnessed(table: &CreateStreamingTable) -> String {
    let mode = table.options.get("outputMode").unwrap_or("append");
    let trigger = table.options.get("trigger").filter(|trigger| trigger.contains(|c: char| c.is_ascii_digit()));
    let trigger = trigger.map(|trigger| format!("trigger '{trigger}', ")).unwrap_or_default();
    format!(
        "CREATE STREAMING TABLE {} USING witness\n  OPTIONS (outputMode '{mode}', {trigger}checkpointLocation \
         'checkpoints/{}')\n  AS {}",
        quoted(&table.name),
        table.name,
        table.query.sql
    )
}

fn quoted(name: &str) -> String {
    let plain =
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}

/// A text between quotes of Spark's SQL.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")
}

fn ddl(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|field| {
        let rule = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{} {}{rule}", quoted(field.name()), spark_type_name(field.data_type()))
    });
    columns.collect::<Vec<_>>().join(", ")
}
