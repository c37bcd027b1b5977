//! The shadow of a workspace: a tree of links in which cargo resolves and builds, so that no file of the project changes.
//!
//! The workspace's root is a folder of links to everything in the project but `Cargo.toml` and `Cargo.lock`, which are
//! copies, and `target` and `.git`, which are left out. Where relative paths lead out of the root (path dependencies,
//! members elsewhere), the tree begins at the folder that holds all of them, and each stands in it where it stands in
//! truth: so `../x` means the same in the shadow, and no manifest has to be rewritten.
//!
//! It knows nothing of tokio.

use super::files::{Wish, Wishes, bring_about};
use crate::metadata::{Metadata, metadata};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use toml_edit::DocumentMut;

/// A shadow on disk.
pub struct Shadow {
    /// The folder that the tree begins at.
    base: PathBuf,
    /// What stands for it.
    tree: PathBuf,
    /// The project's workspace root.
    root: PathBuf,
}

impl Shadow {
    /// Brings the tree at `tree` about, for the workspace of `project`. `Cargo.lock` in it is left alone.
    pub fn cast(project: &Metadata, tree: PathBuf) -> Result<Shadow, String> {
        let root = project.workspace_root.clone();
        let outside = outside(project)?;
        let base = outside.iter().fold(root.clone(), |base, path| common(&base, path));
        let shadow = Shadow { base, tree, root };
        let mut wishes = Wishes::new();
        for path in &outside {
            shadow.wish_outside(path, &mut wishes)?;
        }
        shadow.wish_root(&mut wishes)?;
        bring_about(&shadow.tree, &wishes)?;
        Ok(shadow)
    }

    /// Where a path of the project stands in the shadow.
    pub fn of(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.base).map_or_else(|_| path.to_owned(), |below| self.tree.join(below))
    }

    /// What a path of the shadow stands for.
    pub fn behind(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.tree).map_or_else(|_| path.to_owned(), |below| self.base.join(below))
    }

    /// Where files about a member are kept that shall not lie in the project: beside the tree.
    pub fn kept(&self, package: &str) -> PathBuf {
        self.tree.with_file_name("kept").join(package)
    }

    pub fn lock(&self) -> PathBuf {
        self.of(&self.root).join("Cargo.lock")
    }

    /// The workspace's root folder: links to all of its entries.
    fn wish_root(&self, wishes: &mut Wishes) -> Result<(), String> {
        let below = self.below(&self.root);
        self.wish_folders(&below, wishes);
        self.wish_entries(&self.root, wishes)?;
        let path = self.root.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        wishes.insert(below.join("Cargo.toml"), Wish::File(rooted(&text)?.into_bytes()));
        wishes.insert(below.join("Cargo.lock"), Wish::Keep);
        Ok(())
    }

    /// A folder or file outside the root: one link, in folders that stand for those it is in.
    fn wish_outside(&self, path: &Path, wishes: &mut Wishes) -> Result<(), String> {
        if self.root.starts_with(path) {
            return self.wish_around(path, wishes);
        }
        let below = self.below(path);
        // What lies in a folder that is linked already is there.
        if below.ancestors().any(|outer| matches!(wishes.get(outer), Some(Wish::Link(_)))) {
            return Ok(());
        }
        self.wish_folders(below.parent().unwrap_or(Path::new("")), wishes);
        wishes.insert(below, Wish::Link(path.to_owned()));
        Ok(())
    }

    /// A package that the root lies in: links to all but the folders that lead to the root.
    fn wish_around(&self, path: &Path, wishes: &mut Wishes) -> Result<(), String> {
        for folder in self.root.ancestors().skip(1).take_while(|f| f.starts_with(path)) {
            self.wish_folders(&self.below(folder), wishes);
            self.wish_entries(folder, wishes)?;
        }
        Ok(())
    }

    /// Links to what is in a folder.
    fn wish_entries(&self, folder: &Path, wishes: &mut Wishes) -> Result<(), String> {
        let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let left_out = name == "target" || name == ".git";
            // A link to the folder that the shadow is in would lead cargo round in circles.
            if !left_out && !self.tree.starts_with(&path) && !self.root.starts_with(&path) {
                // A member elsewhere may have made a folder of it.
                wishes.entry(self.below(&path)).or_insert(Wish::Link(path));
            }
        }
        Ok(())
    }

    fn wish_folders(&self, below: &Path, wishes: &mut Wishes) {
        for folder in below.ancestors().filter(|f| !f.as_os_str().is_empty()) {
            wishes.entry(folder.to_owned()).or_insert(Wish::Folder);
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.base).map(Path::to_owned).unwrap_or_default()
    }
}

/// The manifest, as that of a workspace's root: or cargo would look for one in the folders around the shadow.
fn rooted(text: &str) -> Result<String, String> {
    let manifest: DocumentMut = text.parse().map_err(|e| format!("Cargo.toml: {e}"))?;
    Ok(if manifest.contains_key("workspace") { text.to_owned() } else { format!("{text}\n[workspace]\n") })
}

/// All that relative paths of the workspace lead to outside its root: folders of packages, and manifests of the
/// workspaces that those are in, whose settings they may inherit. Outer ones come first.
fn outside(project: &Metadata) -> Result<BTreeSet<PathBuf>, String> {
    let root = &project.workspace_root;
    let mut found = BTreeSet::new();
    let mut left: Vec<PathBuf> = project.packages.iter().map(|p| p.folder().to_owned()).collect();
    left.extend(project.packages.iter().flat_map(|p| &p.dependencies).filter_map(|d| d.path.clone()));
    left.extend(patched(root)?);
    while let Some(folder) = left.pop() {
        if folder.starts_with(root) || !found.insert(folder.clone()) {
            continue;
        }
        // A member's own dependencies are known. Where cargo refuses the manifest it will say so when it resolves.
        let Ok(other) = metadata(Some(&folder.join("Cargo.toml")), &["--no-deps".to_owned()]) else { continue };
        if other.workspace_root != folder && !other.workspace_root.starts_with(root) {
            found.insert(other.workspace_root.join("Cargo.toml"));
        }
        let package = other.packages.iter().filter(|p| p.folder() == folder);
        left.extend(package.flat_map(|p| &p.dependencies).filter_map(|d| d.path.clone()));
    }
    Ok(found)
}

/// The folders that `[patch]` and `[replace]` of a manifest name.
fn patched(root: &Path) -> Result<Vec<PathBuf>, String> {
    let path = root.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest: DocumentMut = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
    let patches = manifest.get("patch").and_then(|p| p.as_table_like());
    let tables = patches.into_iter().flat_map(|t| t.iter().map(|(_, table)| table));
    let entries = tables.chain(manifest.get("replace")).filter_map(|t| t.as_table_like());
    let paths = entries.flat_map(|t| t.iter().filter_map(|(_, patch)| patch.get("path")?.as_str()));
    Ok(paths.map(|relative| normal(&root.join(relative))).collect())
}

/// `a/../b` is `b`, as cargo reads it: by its letters.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The innermost folder that both paths are in.
fn common(a: &Path, b: &Path) -> PathBuf {
    let b = if b.is_file() { b.parent().unwrap_or(b) } else { b };
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_cargo_reads_it() {
        assert_eq!(normal(Path::new("/a/b/../c/./d/../../e")), Path::new("/a/e"));
        assert_eq!(common(Path::new("/a/b"), Path::new("/a/c/d")), Path::new("/a"));
        assert_eq!(common(Path::new("/a/b"), Path::new("/a/b/c")), Path::new("/a/b"));
    }

    #[test]
    fn the_copy_of_a_manifest_is_a_workspaces_root() {
        let single = rooted("[package]\nname = \"a\"").expect("a manifest");
        assert!(single.ends_with("\n[workspace]\n"));
        let many = "workspace.members = [\"a\"]\n";
        assert_eq!(rooted(many).expect("a manifest"), many);
        assert!(rooted("[package").is_err());
    }
}
