// Line icons, drawn for this console on a 24-unit grid.

import type { ReactNode } from "react";

function icon(path: ReactNode) {
  return function Icon() {
    return (
      <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
        {path}
      </svg>
    );
  };
}

export const Calls = icon(<path d="M4 7h11m0 0-3.5-3.5M15 7l-3.5 3.5M20 17H9m0 0 3.5-3.5M9 17l3.5 3.5" />);
export const Turns = icon(<path d="M4 6h10M7 12h13M4 18h7" strokeWidth="3" />);
export const Sessions = icon(<path d="M5 5h14v10H10l-5 4zM9 9h6M9 12h4" />);
export const Findings = icon(<path d="M12 4 3 19h18zM12 10v4m0 2.6v.1" />);
export const Processes = icon(<path d="M6 4v13a2 2 0 0 0 2 2h4M6 9h6M12 6.5h7v5h-7zM12 16.5h7v5h-7z" />);
export const Metrics = icon(<path d="M4 4v16h16M8 15l3.5-4 3 2.5L20 7" />);
export const Lock = icon(<path d="M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3M12 14.5v2" />);
export const Health = icon(<path d="M3 12h4l2.5-6 4 12 2.5-6h5" />);
export const Search = icon(<path d="M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM20 20l-4.6-4.6" />);
export const Sun = icon(<path d="M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2.5v2M12 19.5v2M4.5 4.5 6 6M18 18l1.5 1.5M2.5 12h2M19.5 12h2M4.5 19.5 6 18M18 6l1.5-1.5" />);
export const Moon = icon(<path d="M20 14.2A8.2 8.2 0 0 1 9.8 4 8.2 8.2 0 1 0 20 14.2z" />);
export const Close = icon(<path d="M6 6l12 12M18 6 6 18" />);
export const Copy = icon(<path d="M9 9h11v11H9zM5 15H4V4h11v1" />);
export const Check = icon(<path d="m5 12.5 4.5 4.5L19 7.5" />);
export const User = icon(<path d="M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20a7.5 7.5 0 0 1 15 0" />);
export const Model = icon(<path d="M12 3l2.2 5.8L20 11l-5.8 2.2L12 19l-2.2-5.8L4 11l5.8-2.2zM19 17v4M17 19h4" />);
export const System = icon(<path d="M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5" />);
export const Tool = icon(<path d="M14.5 6.5a4 4 0 0 1 5-3l-2.6 2.6 1 2.6 2.6 1L23 7a4 4 0 0 1-5.6 4.7L9.6 19.5a2.1 2.1 0 0 1-3-3l7.8-7.8a4 4 0 0 1 .1-2.2z" transform="translate(-2)" />);
export const Result = icon(<path d="M20 5v6a3 3 0 0 1-3 3H5m0 0 4-4m-4 4 4 4" />);
export const Brain = icon(<path d="M9 18.5h6M10 21.5h4M12 2.5a6.5 6.5 0 0 0-3.8 11.8c.6.5.8 1 .8 1.7h6c0-.7.2-1.2.8-1.7A6.5 6.5 0 0 0 12 2.5z" />);
export const Media = icon(<path d="M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9.5v.1" />);
export const Chevron = icon(<path d="m9 6 6 6-6 6" />);
export const Download = icon(<path d="M12 4v11m0 0-4-4m4 4 4-4M5 20h14" />);
export const Warning = Findings;
export const Back = icon(<path d="M19 12H5m0 0 6-6m-6 6 6 6" />);
export const Agent = icon(<path d="M12 3v3M5 8.5h14v10H5zM9.5 12.5v1.5M14.5 12.5v1.5M2.5 12v3M21.5 12v3" />);
