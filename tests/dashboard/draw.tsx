// Draws a Grafana dashboard with Grafana's own components, asking a Prometheus from the browser.
// window.BOARD is the dashboard's JSON, window.PROMETHEUS an address, window.SECONDS how far back.
// Of a dashboard it knows what ours has: stat and timeseries panels, units, thresholds, legends.

import "uplot/dist/uPlot.min.css";
import { createRoot } from "react-dom/client";
import {
  createTheme,
  dateTime,
  FieldColorModeId,
  FieldType,
  getDisplayProcessor,
  ThemeContext,
  toDataFrame,
} from "@grafana/data";
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  GlobalStyles,
  LegendDisplayMode,
  PanelChrome,
  TimeSeries,
} from "@grafana/ui";

declare global {
  interface Window {
    BOARD: any;
    PROMETHEUS: string;
    SECONDS: number;
  }
}

const COLUMN = 56;
const ROW = 38;
const theme = createTheme({ colors: { mode: "light" } });
const until = Math.floor(Date.now() / 1000);
const from = until - window.SECONDS;

async function ask(expression: string): Promise<any[]> {
  const step = Math.max(1, Math.floor(window.SECONDS / 200));
  const what = new URLSearchParams({
    query: expression,
    start: String(from),
    end: String(until),
    step: String(step),
  });
  const answer = await fetch(`${window.PROMETHEUS}/api/v1/query_range?${what}`);
  const said = await answer.json();
  if (said.status !== "success") {
    throw new Error(said.error);
  }
  return said.data.result;
}

function frame(panel: any, target: any, series: any, index: number) {
  const name = (target.legendFormat || "").replace(
    /\{\{\s*(\w+)\s*\}\}/g,
    (_: string, label: string) => series.metric[label] ?? ""
  );
  // Where a panel names no colours, Grafana gives each series one.
  const mode = panel.type === "stat" ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic;
  const config = { color: { mode }, ...panel.fieldConfig.defaults, displayName: name || panel.title };
  const made = toDataFrame({
    refId: target.refId,
    fields: [
      { name: "Time", type: FieldType.time, values: series.values.map((v: any) => v[0] * 1000) },
      { name: "Value", type: FieldType.number, config, values: series.values.map((v: any) => +v[1]) },
    ],
  });
  for (const field of made.fields) {
    field.state = { seriesIndex: index };
    field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
  }
  return made;
}

async function frames(panel: any) {
  const found = [];
  for (const target of panel.targets) {
    for (const series of await ask(target.expr)) {
      found.push(frame(panel, target, series, found.length));
    }
  }
  return found;
}

function Drawn(props: { panel: any; data: any[]; width: number; height: number }) {
  const { panel, data, width, height } = props;
  if (data.length === 0) {
    return <div>No data</div>;
  }
  if (panel.type === "stat") {
    const field = data[0].fields[1];
    return (
      <BigValue
        value={field.display(field.values[field.values.length - 1])}
        colorMode={BigValueColorMode.Value}
        graphMode={BigValueGraphMode.None}
        theme={theme}
        width={width}
        height={height}
      />
    );
  }
  const range = { from: dateTime(from * 1000), to: dateTime(until * 1000) };
  return (
    <TimeSeries
      frames={data}
      width={width}
      height={height}
      timeZone="utc"
      timeRange={{ ...range, raw: range }}
      legend={{ displayMode: LegendDisplayMode.List, placement: "bottom", showLegend: true, calcs: [] }}
    />
  );
}

function Panel(props: { panel: any; data: any[] }) {
  const { panel, data } = props;
  const { x, y, w, h } = panel.gridPos;
  const known = ["stat", "timeseries"].includes(panel.type);
  return (
    <div style={{ position: "absolute", left: x * COLUMN, top: y * ROW }} data-panel={panel.title}>
      <PanelChrome
        title={panel.title}
        description={panel.description}
        width={w * COLUMN - 8}
        height={h * ROW - 8}
      >
        {(width, height) =>
          known ? <Drawn panel={panel} data={data} width={width} height={height} /> : <div>Unknown panel</div>
        }
      </PanelChrome>
    </div>
  );
}

async function main() {
  const root = document.getElementById("board")!;
  try {
    const all = await Promise.all(
      window.BOARD.panels.map(async (panel: any) => ({ panel, data: await frames(panel) }))
    );
    createRoot(root).render(
      <ThemeContext.Provider value={theme}>
        <GlobalStyles />
        {all.map((one) => (
          <Panel key={one.panel.id} {...one} />
        ))}
      </ThemeContext.Provider>
    );
    document.title = "drawn";
  } catch (error) {
    root.textContent = `failed: ${error}`;
  }
}

void main();
