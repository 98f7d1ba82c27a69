//! The tables: which config of a paper's row becomes which change of a demonstration.

use run_config::Method;

/// A table of a paper.
pub(super) struct Table {
    pub(super) method: Method,
    /// Its number, or what stands in place of one.
    pub(super) number: &'static str,
    pub(super) rows: &'static [Row],
}

impl Table {
    pub(super) fn title(&self) -> String {
        if self.number.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("Table {}", self.number)
        } else {
            format!("Figure {}", self.number.trim_start_matches("figure"))
        }
    }
}

/// A row.
pub(super) struct Row {
    /// Its config below `configs`, without extension: where its name and the paper's figure stand.
    pub(super) file: &'static str,
    /// A name, where the config's is not its own table's.
    pub(super) name: Option<&'static str>,
    /// What it changes in the demonstration.
    pub(super) set: &'static [&'static str],
    /// Whether SAM's weights must mean something: they start from a toy SAM.
    pub(super) frozen_sam: bool,
}

const fn row(file: &'static str, set: &'static [&'static str]) -> Row {
    Row { file, name: None, set, frozen_sam: false }
}

/// A row of DIT, all of which start from a SAM that knows points and boxes.
const fn dit(file: &'static str, set: &'static [&'static str]) -> Row {
    Row { frozen_sam: true, ..row(file, set) }
}

const fn named(name: &'static str, row: Row) -> Row {
    Row { name: Some(name), ..row }
}

/// What stays trained of a frozen image encoder: DIT's own parts in it.
const TRAIN: &str =
    r#"model.train=["visual_encoder.prob*", "visual_encoder.token*", "visual_encoder.cross*", "visual_encoder.ln*"]"#;
const IMAGE: &str = r#"model.freeze=["visual_encoder"]"#;
const BOTH: &str = r#"model.freeze=["visual_encoder", "lang_encoder"]"#;
/// A group of the optimiser for positions of an image encoder has nothing to do where it is frozen.
const NO_GROUPS: &str = "optim.groups=[]";
const DEFAULT: &str = "model.dit.variant=default_sam";
const E2E: &str = "model.dit.variant=e2e";

const E2E_ROW: Row = dit("dit/table1/e2e", &[E2E]);
const LAYER_WISE: Row = dit("dit/table1/layer-wise", &[]);
const E2E_FROZEN: Row = dit("dit/table1/e2e-frozen", &[E2E, IMAGE, TRAIN, NO_GROUPS]);
const LAYER_WISE_FROZEN: Row = dit("dit/table1/layer-wise-frozen", &[IMAGE, TRAIN, NO_GROUPS]);

/// All that are run at toy size.
pub(super) const TABLES: &[Table] = &[
    Table {
        method: Method::Dit,
        number: "1",
        rows: &[
            named("Default*", dit("dit/table1/default-frozen", &[DEFAULT, IMAGE, TRAIN, NO_GROUPS])),
            named("Add 2*", dit("dit/table1/add-2-frozen", &[DEFAULT, "model.dit.sam.decoder_depth=4", IMAGE, TRAIN, NO_GROUPS])),
            named("Add 4*", dit("dit/table1/add-4-frozen", &[DEFAULT, "model.dit.sam.decoder_depth=6", IMAGE, TRAIN, NO_GROUPS])),
            named("End-to-end*", E2E_FROZEN),
            named("Layer-wise*", LAYER_WISE_FROZEN),
            named("Default", dit("dit/table1/default", &[DEFAULT])),
            named("Add 2", dit("dit/table1/add-2", &[DEFAULT, "model.dit.sam.decoder_depth=4"])),
            named("Add 4", dit("dit/table1/add-4", &[DEFAULT, "model.dit.sam.decoder_depth=6"])),
            named("End-to-end", E2E_ROW),
            named("Layer-wise", LAYER_WISE),
        ],
    },
    Table {
        method: Method::Dit,
        number: "2",
        rows: &[
            named("End-to-end", E2E_ROW),
            named("End-to-end, dynamic and static tokens", dit("dit/table2/e2e-static", &["model.dit.variant=e2e_token"])),
            named("Layer-wise", LAYER_WISE),
            named(
                "Layer-wise, dynamic and static tokens",
                dit("dit/table2/layer-wise-static", &["model.dit.variant=token_layer_wise"]),
            ),
        ],
    },
    Table {
        method: Method::Dit,
        number: "3",
        rows: &[
            named("End-to-end, both frozen", dit("dit/table3/e2e-both-frozen", &[E2E, BOTH, TRAIN, NO_GROUPS])),
            named("End-to-end, image encoder frozen", E2E_FROZEN),
            named("End-to-end", E2E_ROW),
            named("Layer-wise, both frozen", dit("dit/table3/layer-wise-both-frozen", &[BOTH, TRAIN, NO_GROUPS])),
            named("Layer-wise, image encoder frozen", LAYER_WISE_FROZEN),
            named("Layer-wise", LAYER_WISE),
        ],
    },
    Table {
        method: Method::Dit,
        number: "4",
        rows: &[
            named("Cross-attention", dit("dit/table4/cross-attention", &["model.dit.variant=cross_attention"])),
            named("Cross-attention and FFN", dit("dit/table4/cross-attention-ffn", &["model.dit.variant=cross_attention_ffn"])),
            named("Linear projection", LAYER_WISE),
        ],
    },
    Table {
        method: Method::Dit,
        number: "9",
        rows: &[
            named("Cascaded projections*", dit("dit/table9/cascade", &["model.dit.variant=cascade", IMAGE, TRAIN, NO_GROUPS])),
            named("Layer-wise*", LAYER_WISE_FROZEN),
        ],
    },
    Table {
        method: Method::Evf,
        number: "3",
        rows: &[
            row("evf/table3/beit3-text", &["model.evf.encoder=beit3_text"]),
            row("evf/table3/beit3-late", &["model.evf.encoder=beit3_late"]),
            // Half of the demonstration's two layers.
            named(
                "BEiT-3, early fusion in the first half",
                row("evf/table3/beit3-early-half", &["model.evf.beit3.fused_layers=[1]"]),
            ),
            named("BEiT-3, early fusion in all layers", row("evf/table3/beit3-early", &[])),
        ],
    },
    Table {
        method: Method::Evf,
        number: "4",
        rows: &[
            named(
                "Mask decoder",
                row("evf/table4/decoder", &["model.evf.train_encoder=false", "model.evf.train_prompt_encoder=false"]),
            ),
            named(
                "Encoder",
                row("evf/table4/encoder", &["model.evf.train_prompt_encoder=false", "model.evf.train_mask_decoder=false"]),
            ),
            named("Encoder and mask decoder", row("evf/table4/encoder-decoder", &["model.evf.train_prompt_encoder=false"])),
            named("All three", row("evf/table4/all", &[])),
        ],
    },
    Table {
        method: Method::Evf,
        number: "5",
        rows: &[
            named("Text <s>", row("evf/table5/text-cls", &["model.evf.feature=text_cls"])),
            named("Mean of the patches", row("evf/table5/avg-pool", &["model.evf.feature=avg_pool"])),
            named("Both side by side", row("evf/table5/concat", &["model.evf.feature=concat"])),
            named("Image [CLS]", row("evf/table5/image-cls", &[])),
        ],
    },
    Table {
        method: Method::Risam,
        number: "2",
        rows: &[
            named("#1 without Feature Enhancement", row("risam/table2/without-fe-refcoco", &["model.risam.enhancement=none"])),
            named("#2 convolutions", row("risam/table2/conv-refcoco", &["model.risam.interaction=conv"])),
            named("#3 SAM's mask decoder", row("risam/table2/sam-decoder-refcoco", &["model.risam.decoder=sam"])),
            named("RISAM", row("risam/table1/refcoco", &[])),
        ],
    },
    Table {
        method: Method::Risam,
        number: "3",
        rows: &[
            named("#5 TE", row("risam/table3/te-refcoco", &["model.risam.interaction=te"])),
            named("#6 SDF", row("risam/table3/sdf-refcoco", &["model.risam.interaction=sdf"])),
            named("#7 BCM", row("risam/table3/bcm-refcoco", &["model.risam.interaction=bcm"])),
            named(
                "#8 without the attention mask",
                row("risam/table3/without-mask-refcoco", &["model.risam.relevance_mask=false"]),
            ),
            named("RISAM", row("risam/table1/refcoco", &[])),
        ],
    },
    Table {
        method: Method::Risam,
        number: "4",
        rows: &[
            named("1 block", row("risam/table4/1-block", &["model.risam.interaction_blocks=1"])),
            named("2 blocks", row("risam/table4/2-blocks", &[])),
            named("3 blocks", row("risam/table4/3-blocks", &["model.risam.interaction_blocks=3"])),
        ],
    },
    Table {
        method: Method::Risam,
        number: "5",
        rows: &[
            named("#9 with token-to-image attention", row("risam/table5/toi-refcoco", &["model.risam.token_to_image=true"])),
            named(
                "#10 without linguistic guidance",
                row("risam/table5/without-elg-refcoco", &["model.risam.language_in_decoder=false", "model.risam.vlt_head=true"]),
            ),
            named("RISAM", row("risam/table1/refcoco", &[])),
        ],
    },
    Table {
        method: Method::Risam,
        number: "6",
        rows: &[
            named("#1 without Feature Enhancement", row("risam/table6/without-fe", &["model.risam.enhancement=none"])),
            named("#11 ViTDet's feature pyramid", row("risam/table6/vit-det", &["model.risam.enhancement=vit_det"])),
            named("Feature Enhancement", row("risam/table6/fe", &[])),
        ],
    },
    Table {
        method: Method::Risam,
        number: "figure8",
        rows: &[
            named("tau 0.05", row("risam/figure8/tau-05", &["model.risam.tau=0.05"])),
            named("tau 0.2", row("risam/figure8/tau-20", &["model.risam.tau=0.2"])),
            named("tau 0.35", row("risam/figure8/tau-35", &[])),
            named("tau 0.5", row("risam/figure8/tau-50", &["model.risam.tau=0.5"])),
        ],
    },
];
