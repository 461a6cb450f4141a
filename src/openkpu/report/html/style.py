"""The page's look: light and dark by the reader's choice, narrow screens, paper."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--page:#fff;--card:#f6f8fa;--text:#1f2328;--soft:#59636e;--line:#d1d9e0;--accent:#0969da;
--kpu:#1a7f5a;--kpu-soft:#b7e4cf;--cpu:#b35900;--cpu-soft:#ffd8ae;--move:#57606a;--move-soft:#d0d7de;
--good:#1a7f37;--warn:#9a6700;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--page:#0d1117;--card:#151b23;--text:#e6edf3;--soft:#9198a1;--line:#3d444d;
--accent:#4493f8;--kpu:#56d3a0;--kpu-soft:#1d5541;--cpu:#f0a35a;--cpu-soft:#5c3d1b;--move:#9aa4af;--move-soft:#39424d;
--good:#3fb950;--warn:#d29922;--bad:#f85149}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,
'Noto Sans','PingFang SC','Microsoft YaHei',sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:44px 0 6px;padding-top:14px;border-top:1px solid var(--line)}
p{margin:6px 0 12px;max-width:75ch}.soft{color:var(--soft)}.small{font-size:13px}
nav{margin:14px 0 0;display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px}a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin-top:20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:25px;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:13px;display:block}.card .what{font-size:13px;font-weight:600;color:var(--text)}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--page)}
.scroll svg{display:block}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px;white-space:nowrap}
th,td{padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:middle}td.n,th.n{text-align:right}
tr:last-child td{border-bottom:0}td.name{overflow-wrap:anywhere;min-width:130px}
.bar{display:inline-block;height:9px;border-radius:3px;background:var(--kpu);vertical-align:middle;min-width:1px}
.bar.cpu{background:var(--cpu)}.bar.dma{background:var(--move)}.bar.alone{background:var(--kpu-soft)}
.track{background:var(--card);border:1px solid var(--line);border-radius:5px;height:16px;overflow:hidden;
flex:1;min-width:80px}
.track i{display:block;height:100%;background:var(--kpu)}.track i.over{background:var(--bad)}
.row{display:flex;align-items:center;gap:12px;margin:7px 0}.row>span:first-child{width:150px;flex:none}
.row>span:last-child{width:250px;flex:none;color:var(--soft);font-size:13px}
ul{padding-left:20px;margin:8px 0}li{margin:6px 0;max-width:80ch;overflow-wrap:anywhere}
details{border-bottom:1px solid var(--line);padding:8px 0}details:last-child{border:0}
summary{cursor:pointer;overflow-wrap:anywhere}summary:hover{color:var(--accent)}
.charts{display:flex;flex-wrap:wrap;gap:22px;padding:10px 0 6px}figure{margin:0}
figcaption{font-size:12.5px;color:var(--soft)}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(235px,1fr));gap:14px}
.picture{border:1px solid var(--line);border-radius:10px;overflow:hidden;background:var(--card);break-inside:avoid}
.picture>div{padding:8px 12px 12px;font-size:13px}.picture svg{display:block;width:100%;height:auto}
.picture h3{margin:0 0 4px;font-size:13px;font-weight:600;overflow-wrap:anywhere}
.guess{display:grid;grid-template-columns:44px 1fr 46px;gap:6px;align-items:center}
.guess em{font-style:normal;color:var(--soft)}.guess span:last-child{text-align:right}
.chart text{font:10px system-ui,sans-serif;fill:var(--soft)}.axis{stroke:var(--line)}.hist{fill:var(--kpu-soft)}
.wanted{fill:none;stroke:var(--cpu);stroke-width:2;stroke-dasharray:5 3}.got{fill:none;stroke:var(--kpu);stroke-width:2}
.start{stroke:var(--line);stroke-dasharray:2 2}.box{fill:none;stroke-width:2.5;vector-effect:non-scaling-stroke}
.box.kpu{stroke:#31d583}.box.float{stroke:#ff9f43;stroke-dasharray:6 4}
.key{display:inline-block;width:22px;height:0;border-top:3px solid var(--kpu);vertical-align:middle;margin:0 5px 0 12px}
.key.float{border-top:3px dashed var(--cpu)}
footer{margin-top:50px;color:var(--soft);font-size:13px}
@media(max-width:640px){main{padding:16px 12px 40px}h1{font-size:21px}.row{flex-wrap:wrap;gap:4px 10px}
.row>span:first-child{width:100%}.row>span:last-child{width:auto}.wide{display:none}}
@media print{:root{color-scheme:light}body{font-size:11pt}main{max-width:none;padding:0}nav{display:none}
.scroll{overflow:visible;border:0}.scroll svg{width:100%;height:auto}h2{break-after:avoid}
tr,.card,figure{break-inside:avoid}
details>summary{list-style:none}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".strip()
