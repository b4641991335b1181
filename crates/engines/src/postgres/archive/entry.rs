//! One entry of a table of contents.

use super::error::ArchiveError;
use super::header::{ArchiveFormat, ArchiveVersion};
use super::scalar::{Input, Output};
use std::io::{Read, Write};

/// When an entry is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// Comments, access rights and the like: with what they belong to.
    None,
    /// Before the data.
    PreData,
    /// Data.
    Data,
    /// After the data: indexes, constraints, triggers.
    PostData,
}

impl Section {
    fn code(self) -> i32 {
        match self {
            Section::None => 1,
            Section::PreData => 2,
            Section::Data => 3,
            Section::PostData => 4,
        }
    }
}

/// Where the data of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlace {
    /// In a custom archive: at this offset, as far as it was known when the table of contents was written.
    Offset {
        /// 1: not known, 2: known, 3: there are no data.
        state: u8,
        /// The offset from the archive's beginning.
        offset: u64,
    },
    /// In a file of a folder or a member of a tar archive; empty where there are no data (`None` too, which
    /// `pg_restore` does not survive).
    File(Option<Vec<u8>>),
}

/// One entry. All texts are bytes in the database's encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, unique in the archive.
    pub dump_id: i32,
    /// Whether it has data.
    pub had_dumper: bool,
    /// The oid of the catalog that lists the object, as text.
    pub table_oid: Option<Vec<u8>>,
    /// The object's oid, as text.
    pub oid: Option<Vec<u8>>,
    /// The name.
    pub tag: Option<Vec<u8>>,
    /// The kind: `TABLE`, `TABLE DATA`, `SEQUENCE SET`, …
    pub kind: Option<Vec<u8>>,
    /// When it is restored.
    pub section: Section,
    /// The SQL that makes it.
    pub definition: Option<Vec<u8>>,
    /// The SQL that drops it.
    pub drop: Option<Vec<u8>>,
    /// The `COPY … FROM stdin` that takes its data.
    pub copy: Option<Vec<u8>>,
    /// The schema.
    pub schema: Option<Vec<u8>>,
    /// The tablespace.
    pub tablespace: Option<Vec<u8>>,
    /// The table access method; since 1.14.
    pub access_method: Option<Vec<u8>>,
    /// The kind of relation, as the code of a character; since 1.16.
    pub relation_kind: i32,
    /// The owner.
    pub owner: Option<Vec<u8>>,
    /// `false` in all that is not very old.
    pub with_oids: Option<Vec<u8>>,
    /// The numbers of the entries that it depends on, as text.
    pub dependencies: Vec<Vec<u8>>,
    /// Where its data are.
    pub place: DataPlace,
}

impl Entry {
    /// Tells whether it is of a kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind.as_bytes())
    }

    pub(super) fn read<R: Read>(
        input: &mut Input<R>,
        version: ArchiveVersion,
        format: ArchiveFormat,
    ) -> Result<Self, ArchiveError> {
        let dump_id = input.number("the number of an entry")?;
        let had_dumper = input.integer()? != 0;
        let (table_oid, oid) = (input.string()?, input.string()?);
        let (tag, kind) = (input.string()?, input.string()?);
        let section = match input.integer()? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            other => return Err(input.damaged(format!("entry {dump_id} is of the unknown section {other}"))),
        };
        let (definition, drop, copy) = (input.string()?, input.string()?, input.string()?);
        let (schema, tablespace) = (input.string()?, input.string()?);
        let access_method = if version.is_at_least(14) { input.string()? } else { None };
        let relation_kind = if version.is_at_least(16) { input.number("a kind of relation")? } else { 0 };
        let (owner, with_oids) = (input.string()?, input.string()?);
        let mut dependencies = Vec::new();
        while let Some(dependency) = input.string()? {
            dependencies.push(dependency);
        }
        let place = match format {
            ArchiveFormat::Custom => DataPlace::Offset { state: input.byte()?, offset: input.offset()? },
            ArchiveFormat::Tar | ArchiveFormat::Directory => DataPlace::File(input.string()?),
        };
        Ok(Self {
            dump_id,
            had_dumper,
            table_oid,
            oid,
            tag,
            kind,
            section,
            definition,
            drop,
            copy,
            schema,
            tablespace,
            access_method,
            relation_kind,
            owner,
            with_oids,
            dependencies,
            place,
        })
    }

    pub(super) fn write<W: Write>(
        &self,
        output: &mut Output<W>,
        version: ArchiveVersion,
    ) -> Result<(), ArchiveError> {
        output.integer(i64::from(self.dump_id))?;
        output.integer(i64::from(self.had_dumper))?;
        for text in [&self.table_oid, &self.oid, &self.tag, &self.kind] {
            output.string(text.as_deref())?;
        }
        output.integer(i64::from(self.section.code()))?;
        for text in [&self.definition, &self.drop, &self.copy, &self.schema, &self.tablespace] {
            output.string(text.as_deref())?;
        }
        if version.is_at_least(14) {
            output.string(self.access_method.as_deref())?;
        }
        if version.is_at_least(16) {
            output.integer(i64::from(self.relation_kind))?;
        }
        for text in [&self.owner, &self.with_oids] {
            output.string(text.as_deref())?;
        }
        for dependency in &self.dependencies {
            output.string(Some(dependency))?;
        }
        output.string(None)?;
        match &self.place {
            DataPlace::Offset { state, offset } => {
                output.bytes(&[*state])?;
                output.offset(*offset)
            }
            DataPlace::File(name) => output.string(name.as_deref()),
        }
    }
}
