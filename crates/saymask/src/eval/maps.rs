//! Maps of probabilities as grey PNG files, one per expression: what `eval --from FOLDER --soft` reads.

use std::path::PathBuf;

use anyhow::{Context, Result};
use image::{ExtendedColorType, ImageEncoder};
use models::run_dir::RunDir;
use trainer::TrainError;
use trainer::data::EvalData;
use trainer::evaluate::ProbabilityMap;

/// The folder of a split's maps.
pub(super) struct Maps<'a> {
    folder: PathBuf,
    data: &'a EvalData,
}

/// `eval/SET-BY-SPLIT-maps`, made if it is not there.
pub(super) fn folder<'a>(dir: Option<&RunDir>, data: &'a EvalData) -> Result<Option<Maps<'a>>> {
    let Some(dir) = dir else { return Ok(None) };
    let spec = &data.dataset.spec;
    let folder = dir.eval().join(format!("{}-{}-{}-maps", spec.name, spec.split_by, data.dataset.split));
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    Ok(Some(Maps { folder, data }))
}

impl Maps<'_> {
    /// Writes the map of an item as `REF_N.png`: the referent, and the place of the sentence among its sentences.
    pub(super) fn write(&mut self, item: usize, map: &ProbabilityMap) -> Result<(), TrainError> {
        let item = &self.data.items[item];
        let dataset = &self.data.dataset;
        let number = item.sentence().map_or_else(|| dataset.sent_id(item), |(_, nth)| nth as i64);
        let name = format!("{}_{number}.png", dataset.ref_id(item));
        let path = self.folder.join(name);
        let fault = |what: String| TrainError::File { path: path.clone(), what };
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&map.levels, map.width, map.height, ExtendedColorType::L8)
            .map_err(|e| fault(e.to_string()))?;
        // Thousands of files: a cut one is named when it is read, so nothing waits for the disk.
        std::fs::write(&path, &bytes).map_err(|e| fault(e.to_string()))
    }
}
