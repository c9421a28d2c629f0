import type { JSX } from "preact";

/** Bars of the newest values, the last one at the right. The label says in words what they show. */
export function Bars({ values, places, label, unit }: { values: readonly number[]; places: number; label: string; unit: (v: number) => string }): JSX.Element {
  const top = Math.max(1, ...values);
  const [width, height] = [places * 4, 48];
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={`${label}: now ${unit(values.at(-1) ?? 0)}, at most ${unit(Math.max(0, ...values))}`}>
        <line x1="0" x2={width} y1={height - 0.5} y2={height - 0.5} class="axis" />
        {values.map((v, i) => {
          const tall = v <= 0 ? 0 : Math.max(1.5, (v / top) * (height - 4));
          return <rect key={i} x={(places - values.length + i) * 4 + 0.5} y={height - 1 - tall} width="3" height={tall} />;
        })}
      </svg>
      <figcaption>
        <span>{label}</span>
        <span>most: {unit(Math.max(0, ...values))}</span>
      </figcaption>
    </figure>
  );
}
