//! Schema and footer of a file.
//!
//! ```text
//! "PAR1"  row group …  FileMetaData (thrift)  u32 LE length of it  "PAR1"
//! row group = chunk of column 0  chunk of column 1  …
//! ```

use super::thrift::Writer;
use super::write::Chunk;
use super::{Physical, encoding};

/// First and last bytes of a file.
pub const MAGIC: &[u8; 4] = b"PAR1";
/// Who wrote it, for readers that know of writers' faults.
const CREATED_BY: &str = concat!("spandrel version ", env!("CARGO_PKG_VERSION"));

/// What a column means, beyond its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logical {
    /// Just bytes or numbers.
    None,
    /// UTF-8 text.
    String,
    /// JSON text.
    Json,
    /// Milliseconds since the epoch, UTC.
    TimestampMs,
    /// Nanoseconds since the epoch, UTC.
    TimestampNs,
    /// A group of one repeated group of key and value.
    Map,
    /// A group of one repeated group of one element.
    List,
}

/// How often a node occurs in its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurs {
    /// Once.
    Required,
    /// At most once.
    Optional,
    /// Any number of times.
    Repeated,
}

/// A node of the schema, in depth-first order.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Name in the parent.
    pub name: &'a str,
    /// How often it occurs.
    pub occurs: Occurs,
    /// What it means.
    pub logical: Logical,
    /// A leaf, or a group of so many children.
    pub content: Content,
}

impl<'a> Node<'a> {
    /// A column.
    pub const fn leaf(name: &'a str, occurs: Occurs, logical: Logical, physical: Physical) -> Self {
        Self { name, occurs, logical, content: Content::Leaf(physical) }
    }

    /// A column of UTF-8 text.
    pub const fn text(name: &'a str, occurs: Occurs) -> Self {
        Self::leaf(name, occurs, Logical::String, Physical::ByteArray)
    }

    /// A column of JSON text that may be null.
    pub const fn json(name: &'a str) -> Self {
        Self::leaf(name, Occurs::Optional, Logical::Json, Physical::ByteArray)
    }

    /// A column of whole numbers.
    pub const fn number(name: &'a str) -> Self {
        Self::leaf(name, Occurs::Required, Logical::None, Physical::Int64)
    }

    /// A column of ids of `len` bytes.
    pub const fn id(name: &'a str, occurs: Occurs, len: u8) -> Self {
        Self::leaf(name, occurs, Logical::None, Physical::Fixed(len))
    }

    /// A group of the next `children` nodes, each with all its own.
    pub const fn group(name: &'a str, occurs: Occurs, logical: Logical, children: usize) -> Self {
        Self { name, occurs, logical, content: Content::Group(children) }
    }
}

/// What a node holds.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// Values.
    Leaf(Physical),
    /// So many of the nodes that follow, each with all its own.
    Group(usize),
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// Names from the root to the column.
    pub path: Vec<&'a str>,
    /// How its values are stored.
    pub physical: Physical,
    /// The deepest repetition level.
    pub max_repetition: u8,
    /// The deepest definition level.
    pub max_definition: u8,
}

/// The columns of a schema, in the order of the nodes.
pub fn leaves<'a>(nodes: &[Node<'a>]) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    let mut rest = nodes;
    while !rest.is_empty() {
        collect(&mut rest, &mut Vec::new(), (0, 0), &mut leaves);
    }
    leaves
}

fn collect<'a>(
    rest: &mut &[Node<'a>],
    path: &mut Vec<&'a str>,
    levels: (u8, u8),
    leaves: &mut Vec<Leaf<'a>>,
) {
    let (node, tail) = rest.split_first().expect("invariant: a group has as many children as it says");
    *rest = tail;
    path.push(node.name);
    let (repetition, definition) = match node.occurs {
        Occurs::Required => levels,
        Occurs::Optional => (levels.0, levels.1 + 1),
        Occurs::Repeated => (levels.0 + 1, levels.1 + 1),
    };
    match node.content {
        Content::Leaf(physical) => leaves.push(Leaf {
            path: path.clone(),
            physical,
            max_repetition: repetition,
            max_definition: definition,
        }),
        Content::Group(children) => {
            for _ in 0..children {
                collect(rest, path, (repetition, definition), leaves);
            }
        }
    }
    path.pop();
}

fn write_schema(w: &mut Writer, nodes: &[Node<'_>]) {
    let (mut n_top, mut rest) = (0, nodes);
    while !rest.is_empty() {
        collect(&mut rest, &mut Vec::new(), (0, 0), &mut Vec::new());
        n_top += 1;
    }
    w.struct_list(2, nodes.len() + 1);
    w.element(|w| {
        w.string(4, "schema");
        w.i32(5, n_top);
    });
    for node in nodes {
        w.element(|w| write_node(w, node));
    }
}

fn write_node(w: &mut Writer, node: &Node<'_>) {
    if let Content::Leaf(physical) = node.content {
        w.i32(1, physical.number());
        if let Physical::Fixed(len) = physical {
            w.i32(2, i32::from(len));
        }
    }
    w.i32(
        3,
        match node.occurs {
            Occurs::Required => 0,
            Occurs::Optional => 1,
            Occurs::Repeated => 2,
        },
    );
    w.string(4, node.name);
    if let Content::Group(children) = node.content {
        w.i32(5, children as i32);
    }
    // The older "converted type", where there is one, for older readers.
    let (converted, union_field) = match node.logical {
        Logical::None => return,
        Logical::String => (Some(0), 1),
        Logical::Map => (Some(1), 2),
        Logical::List => (Some(3), 3),
        Logical::Json => (Some(19), 12),
        Logical::TimestampMs => (Some(9), 8),
        Logical::TimestampNs => (None, 8),
    };
    if let Some(converted) = converted {
        w.i32(6, converted);
    }
    w.structure(10, |w| {
        w.structure(union_field, |w| {
            let unit = match node.logical {
                Logical::TimestampMs => 1,
                Logical::TimestampNs => 3,
                _ => return,
            };
            w.bool(1, true);
            w.structure(2, |w| w.structure(unit, |_| {}));
        });
    });
}

/// Rows that lie together in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// How many rows.
    pub n_rows: u64,
    /// A chunk per column.
    pub chunks: Vec<Chunk>,
}

/// Appends the footer to a file that starts with [`MAGIC`] and has these row groups, with chunks for `leaves`.
pub fn write_footer(
    out: &mut Vec<u8>,
    nodes: &[Node<'_>],
    leaves: &[Leaf<'_>],
    groups: &[RowGroup],
    metadata: &[(&str, &str)],
) {
    let mut w = Writer::default();
    w.element(|w| {
        w.i32(1, 2);
        write_schema(w, nodes);
        w.i64(3, groups.iter().map(|group| group.n_rows as i64).sum());
        w.struct_list(4, groups.len());
        for RowGroup { n_rows, chunks } in groups {
            w.element(|w| {
                w.struct_list(1, chunks.len());
                for (leaf, chunk) in leaves.iter().zip(chunks) {
                    w.element(|w| write_chunk(w, leaf, chunk));
                }
                w.i64(2, chunks.iter().map(|chunk| chunk.uncompressed_len as i64).sum());
                w.i64(3, *n_rows as i64);
                w.i64(5, chunks.first().map_or(4, |chunk| chunk.offset as i64));
                w.i64(6, chunks.iter().map(|chunk| chunk.len as i64).sum());
            });
        }
        w.struct_list(5, metadata.len());
        for (key, value) in metadata {
            w.element(|w| {
                w.string(1, key);
                w.string(2, value);
            });
        }
        w.string(6, CREATED_BY);
    });
    out.extend_from_slice(&w.out);
    out.extend_from_slice(&(w.out.len() as u32).to_le_bytes());
    out.extend_from_slice(MAGIC);
}

fn write_chunk(w: &mut Writer, leaf: &Leaf<'_>, chunk: &Chunk) {
    w.i64(2, 0);
    w.structure(3, |w| {
        w.i32(1, leaf.physical.number());
        let encodings: &[i32] = match (chunk.dictionary_len > 0, leaf.max_definition > 0) {
            (true, _) => &[encoding::PLAIN, encoding::RLE, encoding::RLE_DICTIONARY],
            (false, true) => &[encoding::RLE, chunk.encoding],
            (false, false) => &[chunk.encoding],
        };
        w.i32_list(2, encodings);
        w.string_list(3, &leaf.path);
        w.i32(4, if chunk.compressed { 6 } else { 0 });
        w.i64(5, chunk.n_values as i64);
        w.i64(6, chunk.uncompressed_len as i64);
        w.i64(7, chunk.len as i64);
        w.i64(9, (chunk.offset + chunk.dictionary_len) as i64);
        if chunk.dictionary_len > 0 {
            w.i64(11, chunk.offset as i64);
        }
    });
}
