//! `docs/reference` is what the comments of the `.proto` files say, one page for each package. `UPDATE_DOCS=1 cargo test` writes it anew.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs,
};

use countersign_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use super::links::anchor;

/// What a package is for, in the order of the pages.
const PACKAGES: [(&str, &str); 6] = [
    (
        "control",
        "The control plane's services for people, programs and the web UI: snapshots, transforms, test configs, replays, reports.",
    ),
    (
        "discovery",
        "What responders ask of a control plane: what to serve, and the chunks that it is made of; also copying a snapshot.",
    ),
    (
        "responder",
        "The responder's services for programs that embed the mock, see [the gRPC API](../api.md), and between responders that share turns.",
    ),
    (
        "snapshot",
        "Recorded pairs, how they are stored and announced, and how a request is explained.",
    ),
    ("transform", "Templates as messages."),
    ("type", "What the other packages share: digests, conditions, findings."),
];

const HEAD: &str = "<!-- Written by `UPDATE_DOCS=1 cargo test -p countersign-tests --test system -- reference` from the comments in `proto`. -->";

/// Where each type is described: its page and its heading.
struct Index(HashMap<String, (String, String)>);

impl Index {
    fn new(files: &[&FileDescriptorProto]) -> Self {
        let mut index = Self(HashMap::new());
        for file in files {
            let page = page_of(file);
            for message in &file.message_type {
                index.message(file.package(), &page, "", message);
            }
            for one in &file.enum_type {
                index.add(file.package(), &page, one.name());
            }
        }
        index
    }

    fn add(&mut self, package: &str, page: &str, title: &str) {
        self.0.insert(format!(".{package}.{title}"), (page.to_owned(), title.to_owned()));
    }

    fn message(&mut self, package: &str, page: &str, outer: &str, message: &DescriptorProto) {
        let title = within(outer, message.name());
        self.add(package, page, &title);
        for nested in &message.nested_type {
            self.message(package, page, &title, nested);
        }
        for one in &message.enum_type {
            self.add(package, page, &within(&title, one.name()));
        }
    }

    /// A link to a type from a page.
    fn link(&self, from: &str, full: &str) -> String {
        match self.0.get(full) {
            Some((page, title)) if page == from => format!("[{title}](#{})", anchor(title)),
            Some((page, title)) => format!("[{title}]({page}.md#{})", anchor(title)),
            None => format!("`{}`", full.trim_start_matches('.')),
        }
    }
}

fn within(outer: &str, name: &str) -> String {
    if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") }
}

/// `countersign.control.v1` is described on the page `control`.
fn page_of(file: &FileDescriptorProto) -> String {
    file.package().split('.').nth(1).unwrap_or_default().to_owned()
}

/// The comments of a file by the path of what they stand before.
struct Comments<'f>(HashMap<&'f [i32], &'f str>);

impl<'f> Comments<'f> {
    fn new(file: &'f FileDescriptorProto) -> Self {
        let places = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(
            places
                .filter(|place| !place.leading_comments().is_empty())
                .map(|place| (&*place.path, place.leading_comments()))
                .collect(),
        )
    }

    /// The comment as running text.
    fn at(&self, path: &[i32]) -> String {
        let text = self.0.get(path).copied().unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let paragraphs = lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty());
        escaped(&paragraphs.map(|lines| lines.join(" ")).collect::<Vec<_>>().join("\n\n"))
    }

    /// The same for a cell of a table.
    fn cell(&self, path: &[i32]) -> String {
        self.at(path).replace("\n\n", " ").replace('|', "\\|")
    }
}

/// Text in which nothing is markup but what stands between backticks.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (nth, part) in text.split('`').enumerate() {
        if nth > 0 {
            out.push('`');
        }
        if nth % 2 == 0 {
            out.push_str(&part.replace('<', "&lt;").replace('[', "\\["));
        } else {
            out.push_str(part);
        }
    }
    out
}

struct Writer<'i> {
    page: String,
    index: &'i Index,
    out: String,
}

impl Writer<'_> {
    fn file(&mut self, file: &FileDescriptorProto) {
        let comments = Comments::new(file);
        let name = file.name().rsplit('/').next().unwrap_or_default();
        writeln!(self.out, "\n## {name}\n\n{}", comments.at(&[12])).unwrap();
        for (nth, service) in (0..).zip(&file.service) {
            self.service(service, &[6, nth], &comments);
        }
        for (nth, message) in (0..).zip(&file.message_type) {
            self.message("", message, &[4, nth], &comments);
        }
        for (nth, one) in (0..).zip(&file.enum_type) {
            self.one_of(one.name(), one, &[5, nth], &comments);
        }
    }

    fn heading(&mut self, title: &str, comment: &str) {
        writeln!(self.out, "\n### {title}\n\n{comment}").unwrap();
    }

    fn service(&mut self, service: &ServiceDescriptorProto, at: &[i32], comments: &Comments<'_>) {
        self.heading(service.name(), &comments.at(at));
        self.out.push_str("\n| method | takes | returns | |\n|---|---|---|---|\n");
        for (nth, method) in (0..).zip(&service.method) {
            let stream = |streams: bool| if streams { "stream of " } else { "" };
            let takes = self.index.link(&self.page, method.input_type());
            let returns = self.index.link(&self.page, method.output_type());
            writeln!(
                self.out,
                "| `{}` | {}{takes} | {}{returns} | {} |",
                method.name(),
                stream(method.client_streaming()),
                stream(method.server_streaming()),
                comments.cell(&[at, &[2, nth]].concat())
            )
            .unwrap();
        }
    }

    fn message(
        &mut self,
        outer: &str,
        message: &DescriptorProto,
        at: &[i32],
        comments: &Comments<'_>,
    ) {
        if message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry) {
            return;
        }
        let title = within(outer, message.name());
        self.heading(&title, &comments.at(at));
        if !message.field.is_empty() {
            self.out.push_str("\n| field | type | |\n|---|---|---|\n");
        }
        for (nth, field) in (0..).zip(&message.field) {
            let kind = self.kind(message, field);
            let comment = comments.cell(&[at, &[2, nth]].concat());
            writeln!(self.out, "| `{}` = {} | {kind} | {comment} |", field.name(), field.number())
                .unwrap();
        }
        for (nth, nested) in (0..).zip(&message.nested_type) {
            self.message(&title, nested, &[at, &[3, nth]].concat(), comments);
        }
        for (nth, one) in (0..).zip(&message.enum_type) {
            self.one_of(&within(&title, one.name()), one, &[at, &[4, nth]].concat(), comments);
        }
    }

    fn kind(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
        let map = message.nested_type.iter().find(|nested| {
            nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
                && field.type_name().ends_with(&format!(".{}.{}", message.name(), nested.name()))
        });
        if let Some([key, value]) = map.map(|map| &*map.field) {
            return format!("map from {} to {}", self.plain(key), self.plain(value));
        }
        let kind = self.plain(field);
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.and_then(|nth| message.oneof_decl.get(usize::try_from(nth).ok()?));
        match (field.label(), oneof) {
            (Label::Repeated, _) => format!("list of {kind}"),
            (_, Some(oneof)) => format!("{kind}, one of `{}`", oneof.name()),
            _ if field.proto3_optional() => format!("{kind}, optional"),
            _ => kind,
        }
    }

    fn plain(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::Message | Type::Enum => self.index.link(&self.page, field.type_name()),
            other => {
                format!("`{}`", other.as_str_name().trim_start_matches("TYPE_").to_lowercase())
            }
        }
    }

    fn one_of(
        &mut self,
        title: &str,
        one: &EnumDescriptorProto,
        at: &[i32],
        comments: &Comments<'_>,
    ) {
        self.heading(title, &comments.at(at));
        self.out.push_str("\n| value | |\n|---|---|\n");
        for (nth, value) in (0..).zip(&one.value) {
            let comment = comments.cell(&[at, &[2, nth]].concat());
            writeln!(self.out, "| `{}` = {} | {comment} |", value.name(), value.number()).unwrap();
        }
    }
}

/// Every page by its name.
fn write_all() -> BTreeMap<String, String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let files: Vec<_> =
        set.file.iter().filter(|file| file.package().starts_with("countersign.")).collect();
    let index = Index::new(&files);
    let mut pages = BTreeMap::new();
    for (page, about) in PACKAGES {
        let out = format!("{HEAD}\n\n# countersign.{page}.v1\n\n{about}\n");
        let mut writer = Writer { page: page.to_owned(), index: &index, out };
        let mut of_page: Vec<_> = files.iter().filter(|file| page_of(file) == page).collect();
        of_page.sort_by_key(|file| file.name().to_owned());
        assert!(!of_page.is_empty(), "there is a package {page}");
        for file in of_page {
            writer.file(file);
        }
        pages.insert(page.to_owned(), writer.out);
    }
    assert!(files.iter().all(|file| pages.contains_key(&page_of(file))), "each package has a page");
    pages
}

#[test]
fn the_reference_is_what_the_contract_says() {
    let dir = super::root().join("docs/reference");
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    for (page, text) in write_all() {
        let path = dir.join(format!("{page}.md"));
        if update {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&path, text).unwrap();
        } else {
            assert!(
                fs::read_to_string(&path).unwrap_or_default() == text,
                "docs/reference/{page}.md differs from proto: run UPDATE_DOCS=1 cargo test -p countersign-tests --test system -- reference"
            );
        }
    }
}

#[test]
fn everything_in_the_contract_is_described() {
    let bare: Vec<String> = write_all()
        .iter()
        .flat_map(|(page, text)| {
            text.lines()
                .filter(|line| line.ends_with("|  |"))
                .map(move |line| format!("{page}: {line}"))
        })
        .collect();
    assert!(bare.is_empty(), "the .proto files say nothing of\n{}", bare.join("\n"));
}
